"""Damage the newest checkpoint of a run in many ways, and see which one is used. A script, no test:

python tests/support/damaged_checkpoints.py PACKAGE RUN TIMES

Prints how often each kind of damage was found and the checkpoint before it used, and how often a manifest was
damaged where nothing is read, and the checkpoint, which is whole, used. The last damage stays.
"""

import importlib
import json
import logging
import random
import sys
from collections import Counter
from pathlib import Path

PACKAGE, RUN, TIMES = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
files = importlib.import_module(f"{PACKAGE}.runs.files")
CHANCE = random.Random(0)


def cut(content: bytes) -> bytes:
    return content[: CHANCE.randrange(1, len(content))]


def flip(content: bytes) -> bytes:
    """Turn one bit."""
    damaged = bytearray(content)
    damaged[CHANCE.randrange(len(content))] ^= 1 << CHANCE.randrange(8)
    return bytes(damaged)


def zero(content: bytes) -> bytes:
    """Overwrite a part that holds anything but zeros."""
    begin = CHANCE.choice([index for index, byte in enumerate(content) if byte])
    length = CHANCE.randrange(1, 4096)
    return content[:begin] + bytes(len(content[begin : begin + length])) + content[begin + length :]


def empty(_: bytes) -> bytes:
    return b""


def main() -> None:
    logging.disable()
    before, newest = sorted((RUN / "checkpoints").glob("step-*.pt"))
    whole = {path: path.read_bytes() for path in (newest, newest.with_suffix(".json"))}
    other = {path: before.with_suffix(path.suffix).read_bytes() for path in whole}
    assert files.newest_checkpoint(newest.parent) == newest
    found: Counter[str] = Counter()
    harmless = 0
    for number in range(TIMES):
        damage = (cut, flip, zero, empty, None)[number % 5]  # None takes the file of the checkpoint before
        path = list(whole)[number // 5 % 10 == 9]  # in one of ten rounds the manifest
        path.write_bytes(damage(whole[path]) if damage else other[path])
        used = files.newest_checkpoint(newest.parent)
        found[damage.__name__ if damage else "swap"] += used == before
        harmless += used == newest and path.suffix == ".json"
        if number + 1 < TIMES:
            path.write_bytes(whole[path])
    print(json.dumps({"found": found, "harmless": harmless}))


if __name__ == "__main__":
    main()
