"""Measure, and write what was seen: `python -m benchmarks [NAME ...]`.

Timings on a shared machine vary by a third, so pages give ratios of what ran side by side in one run.
"""

import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

FOLDER = Path(__file__).parent
PAGES = FOLDER.parent / "docs/benchmarks"


def main() -> None:
    known = [module.name for module in iter_modules([str(FOLDER)]) if not module.name.startswith("_")]
    chosen = sys.argv[1:] or known
    if unknown := set(chosen) - set(known):
        raise SystemExit(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for name in chosen:
        page: str = import_module(f"benchmarks.{name}").measure()
        (PAGES / f"{name}.md").write_text(page)
        print(page)


if __name__ == "__main__":
    main()
