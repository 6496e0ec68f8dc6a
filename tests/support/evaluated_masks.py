"""Evaluate a run on folders, and print the most memory in MB up to the end of each. A script, no test:

python tests/support/evaluated_masks.py PACKAGE RUN FOLDER ...
"""

import importlib
import json
import resource
import sys
from dataclasses import replace
from pathlib import Path

PACKAGE, RUN, *FOLDERS = sys.argv[1:]
config, trained = (importlib.import_module(f"{PACKAGE}.{name}") for name in ("config", "trained"))


def main() -> None:
    cfg, most = config.read_settings(Path(RUN)), []
    for folder in FOLDERS:
        trained.evaluate(Path(RUN), replace(cfg, data=replace(cfg.data, root=Path(folder))))
        most.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps(most))


if __name__ == "__main__":
    main()
