"""Keep compiled templates between runs as Python keeps compiled modules: beside the code, only to save time.

All are in one file, since opening a hundred takes longer than reading one. What is missing, damaged, made by
another version or cannot be written costs the time of compiling, and nothing else.
"""

import atexit
import marshal
import os
import sys
from contextlib import suppress
from hashlib import sha256
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from types import CodeType

import jinja2
from jinja2.bccache import Bucket, BytecodeCache

DIGEST = sha256().digest_size


class CompiledTemplates(BytecodeCache):
    """Compiled templates by name, each with the checksum of the text that it was compiled from."""

    def __init__(self, file: Path, settings: object) -> None:
        """Open `file`; `settings` are those of the Jinja environment, which compiled templates depend on."""
        self.file = file
        self._key = sha256(MAGIC_NUMBER + repr((jinja2.__version__, settings)).encode()).digest()
        self._kept = self._read()
        self._changed = False
        atexit.register(self.save)

    def load_bytecode(self, bucket: Bucket) -> None:
        checksum, code = self._kept.get(bucket.key, ("", None))
        if checksum == bucket.checksum:
            bucket.code = code

    def dump_bytecode(self, bucket: Bucket) -> None:
        if bucket.code is not None:
            self._kept[bucket.key] = (bucket.checksum, bucket.code)
            self._changed = True

    def save(self) -> None:
        """Write what this process compiled, whole or not at all."""
        if not self._changed or sys.dont_write_bytecode:
            return
        self._changed = False
        content = marshal.dumps(self._kept)
        draft = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("xb") as file:  # follows no link
                file.write(self._key + sha256(content).digest() + content)
            draft.replace(self.file)
        with suppress(OSError):
            draft.unlink()  # a full disk leaves a part of it

    def _read(self) -> dict[str, tuple[str, CodeType]]:
        try:
            stored = self.file.read_bytes()
        except OSError:
            return {}
        key, digest, content = stored[:DIGEST], stored[DIGEST : 2 * DIGEST], stored[2 * DIGEST :]
        if (key, digest) != (self._key, sha256(content).digest()):  # marshal trusts what it reads
            return {}
        return dict(marshal.loads(content))


def compiled_file(module: str) -> Path:
    """Find the place where Python itself would keep something compiled that belongs to a module."""
    return Path(cache_from_source(module, optimization="templates"))
