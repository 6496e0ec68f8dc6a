"""What a run came from."""

import hashlib
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from . import files

MOST_DIFF = 2**20  # bytes of uncommitted changes that are kept


def facts(folder: Path) -> dict[str, Any]:
    """The commit, the command, versions and hardware; what is not committed goes to a patch beside `run.json`."""
    commit, diff = _git("rev-parse", "HEAD").decode().strip(), _git("diff", "HEAD", "--no-color", "--no-ext-diff")
    patch = f"uncommitted-{hashlib.sha256(diff).hexdigest()[:8]}.patch" if 0 < len(diff) <= MOST_DIFF else None
    if patch:
        files.save(folder / patch, partial(Path.write_bytes, data=diff))
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "process": os.getpid(),
        "command": [sys.executable, *sys.orig_argv[1:]],
        "commit": commit or None,
        "uncommitted": len(diff),  # bytes
        "patch": patch,
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"system": platform.platform(), "cpus": os.cpu_count(), "gpus": gpus},
    }


def _versions() -> dict[str, str]:
    """Of all that is imported by now and says its version, by the names of modules."""
    outer = {name for name in sys.modules if "." not in name} - sys.stdlib_module_names
    told = {name: getattr(sys.modules[name], "__dict__", {}).get("__version__") for name in sorted(outer)}
    return {name: version for name, version in told.items() if isinstance(version, str)}


def _git(*arguments: str) -> bytes:
    """What git says of the project, or nothing where there is no repository."""
    command = ["git", "-C", str(Path(__file__).parent), "-c", "core.fsmonitor=", *arguments]
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return b""
