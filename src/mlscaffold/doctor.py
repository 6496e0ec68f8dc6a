"""Look at what training and updating need: git, Python, torch, devices, versions, the project here."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mlscaffold import __version__, screen
from mlscaffold.catalogue.answers import read_answers, read_mapping
from mlscaffold.catalogue.questions import Catalogue
from mlscaffold.errors import MlscaffoldError, ToolError, masked
from mlscaffold.rendering.render import ANSWERS_FILE
from mlscaffold.system.git import LOOK_SECONDS, git, is_outside, reason, status

OLDEST = (3, 11)  # Python
ACTIVE = ("VIRTUAL_ENV", "CONDA_PREFIX")  # the environment of the shell
PYTHON = "Scripts/python.exe" if os.name == "nt" else "bin/python"
INSTALLED = ("lib/python*/site-packages/*.dist-info", "Lib/site-packages/*.dist-info")
DISTRIBUTION = re.compile(r"^([\w.]+)-([^-\n]+)\.dist-info$", re.MULTILINE)
# The first git of each line without known ways for a repository of others to run code (CVE-2025-48384).
MENDED = {
    (2, 43): 7, (2, 44): 4, (2, 45): 4, (2, 46): 4, (2, 47): 3, (2, 48): 2, (2, 49): 1, (2, 50): 1,
}  # fmt: skip
SHOWN = 8  # differing versions that the text names; --json has all

# Runs in the project's Python, which need not have mlscaffold, as mlscaffold's need not have torch.
PROBE = """
import importlib.metadata, json, platform
versions = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}
devices, wrong = [], ""
if "torch" in versions:
    try:
        import torch
        devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        devices += ["Apple GPU"] if torch.backends.mps.is_available() else []
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
found = {"python": platform.python_version(), "versions": versions, "devices": devices, "wrong": wrong}
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Finding:
    what: str
    state: str  # "ok", "note" or "broken"
    text: str


@dataclass(frozen=True)
class Python:
    """What a Python interpreter has installed."""

    path: Path
    python: str
    versions: dict[str, str]  # by normalized name
    devices: list[str]
    wrong: str  # why torch cannot be imported


def doctor(catalogue: Catalogue, folder: Path, *, as_json: bool) -> bool:
    """Print what was found, a line each; tells whether nothing is broken."""
    findings = [replace(finding, text=masked(finding.text)) for finding in examine(catalogue, folder)]
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    return all(finding.state != "broken" for finding in findings)


def examine(catalogue: Catalogue, folder: Path) -> Iterator[Finding]:
    """Look at everything, whatever is wrong with the things before."""
    in_project = (folder / ANSWERS_FILE).is_file()
    yield _git(folder)
    yield from _environment(catalogue, folder, in_project)
    if in_project:
        yield from examine_project(catalogue, folder)
    else:
        yield Finding("project", "note", f"None in {folder}.")


def examine_project(catalogue: Catalogue, folder: Path) -> Iterator[Finding]:
    """Look at the answers, the release and the uncommitted changes of a project."""
    if (folder / ANSWERS_FILE).is_symlink():
        yield Finding("answers", "broken", f"{ANSWERS_FILE} is a link, so it was not read.")
    else:
        yield _answers(catalogue, folder / ANSWERS_FILE)
        yield _release(folder / ANSWERS_FILE)
    if shutil.which("git"):
        yield _changes(folder)


def _git(folder: Path) -> Finding:
    if shutil.which("git") is None:
        return Finding("git", "broken", "Not found. Projects are updated through git: install it.")
    text = git(folder, "--version").stdout.strip().removeprefix("git version ")
    major, minor, patch = (*map(int, re.findall(r"\d+", text)[:3]), 0, 0, 0)[:3]
    if (major, minor) < min(MENDED) or patch < MENDED.get((major, minor), 0):
        line = (major, minor) if (major, minor) in MENDED else min(MENDED)
        first = ".".join(map(str, (*line, MENDED[line])))
        holes = f"Before {first} a repository of others can run code, unless your system mended it."
        return Finding("git", "note", f"{text}. {holes}")
    return Finding("git", "ok", text)


def _environment(catalogue: Catalogue, folder: Path, in_project: bool) -> Iterator[Finding]:
    constraints = catalogue.root / "constraints.txt"
    root = _environment_root(folder)
    if root and (reason := _not_to_be_run(root, folder)):
        yield from _unrun(root, reason, constraints)
        return
    path = root / PYTHON if root else Path(sys.executable)
    try:
        python = probe(path)
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError) as error:
        yield Finding("python", "broken", f"{path} does not run: {error}")
        return
    yield _python(python)
    yield _torch(python, in_project)
    yield _versions(python, constraints)


def _environment_root(folder: Path) -> Path | None:
    """The environment that the project in this folder would use; none for that of this very process."""
    places = [folder / ".venv", *_active()]
    return next((place for place in places if os.path.lexists(place / PYTHON)), None)


def _active() -> list[Path]:
    """The environments of the shell; a relative one would be another in each folder, a stranger's too."""
    return [place for name in ACTIVE if (place := Path(os.environ.get(name, ""))).is_absolute()]


def _not_to_be_run(root: Path, folder: Path) -> str:
    """Why nothing of an environment is run; nothing for one that the user works in already.

    A folder of others can bring an environment, and the first thing that its Python does is to run its code.
    """
    if shutil.which("git"):
        done = git(folder, "ls-files", "-z", "--", str(root.absolute()))
        if done.stdout:
            return f"{root} is committed to git, so nothing of it was run: `git rm -r --cached` takes it out."
        if done.returncode and not any(words in done.stderr for words in ("not a git", "outside repo")):
            return f"{root} was not run, since git does not use this repository."
    if any(place.resolve() == root.resolve() for place in _active()):
        return ""
    return f"{root} is not active, so nothing of it was run."


def _unrun(root: Path, reason: str, constraints: Path) -> Iterator[Finding]:
    """Say what an environment has by the names of its files."""
    names = (path.name for pattern in INSTALLED for path in root.glob(pattern))
    versions = {_normalized(name): version for name, version in DISTRIBUTION.findall("\n".join(names))}
    yield Finding("python", "note", reason)
    torch = f"{versions['torch']}, not tried." if "torch" in versions else f"Not among the files of {root}."
    yield Finding("torch", "note", f"{torch} Activate {root.name} to have it tried.")
    yield _versions(Python(root / PYTHON, "", versions, [], ""), constraints)


def probe(path: Path) -> Python:
    """Ask an interpreter what it has; importing torch takes a few seconds."""
    # Not in the current folder, whose files would hide installed packages.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    command = [str(path), "-c", PROBE]
    done = subprocess.run(
        command,
        cwd=path.parent,
        env=environment,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    versions = {_normalized(name): version for name, version in found["versions"].items()}
    return Python(path, found["python"], versions, found["devices"], found["wrong"])


def _python(python: Python) -> Finding:
    text = f"{python.python} ({python.path})"
    if tuple(map(int, python.python.split(".")[:2])) < OLDEST:
        return Finding("python", "broken", f"{text}. Projects need {OLDEST[0]}.{OLDEST[1]} or newer.")
    return Finding("python", "ok", text)


def _torch(python: Python, in_project: bool) -> Finding:
    if "torch" not in python.versions:
        missing = f"Not installed for {python.path}."
        if in_project:
            return Finding(
                "torch", "broken", f"{missing} Run `pip install -e '.[dev]'` or `uv sync --extra dev`."
            )
        return Finding("torch", "note", f"{missing} A project brings it.")
    if python.wrong:
        return Finding("torch", "broken", f"{python.versions['torch']} cannot be imported: {python.wrong}")
    return Finding("torch", "ok", f"{python.versions['torch']} on {', '.join(python.devices) or 'CPU only'}")


def _versions(python: Python, file: Path) -> Finding:
    if not file.is_file():
        return Finding("versions", "note", "Unknown: this mlscaffold does not say what it was tested with.")
    lines = (line.split("#")[0].strip().partition("==") for line in file.read_text().splitlines())
    tested = {_normalized(name): version.strip() for name, _, version in lines if version}
    both = sorted(python.versions.keys() & tested.keys())
    other = [
        f"{name} {python.versions[name]} (tested with {tested[name]})"
        for name in both
        if python.versions[name].split("+")[0] != tested[name].split("+")[0]
    ]
    if not other:
        return Finding("versions", "ok", f"{len(both)} packages, all as tested")
    more = f" and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
    return Finding("versions", "note", f"{', '.join(other[:SHOWN])}{more}")


def _answers(catalogue: Catalogue, file: Path) -> Finding:
    try:
        objections = catalogue.objections(read_answers(catalogue, file))
    except MlscaffoldError as error:
        return Finding("answers", "broken", str(error))
    if objections:
        return Finding("answers", "broken", " ".join(f"{name}: {text}" for name, text in objections.items()))
    return Finding("answers", "ok", "valid")


def _release(file: Path) -> Finding:
    try:
        commit = read_mapping(file).get("_commit")
    except MlscaffoldError as error:
        return Finding("release", "broken", str(error))
    if commit is None:
        return Finding("release", "note", "Made from templates of no release, so it cannot be updated.")
    return Finding("release", "ok", f"{commit}; mlscaffold here is v{__version__}")


def _changes(folder: Path) -> Finding:
    try:
        looked = status(folder, "normal", LOOK_SECONDS)
    except ToolError as error:
        return Finding("changes", "broken", str(error))
    if is_outside(looked):
        return Finding("changes", "note", "No git repository; `copier update` needs one. Run `git init`.")
    if looked.returncode:
        return Finding("changes", "broken", f"git does not use this repository: {reason(looked)}")
    lines = [entry for entry in looked.stdout.split("\0") if entry]
    conflicts = [line[3:] for line in lines if "U" in line[:2] or line[:2] in ("AA", "DD")]
    if conflicts:
        return Finding("changes", "broken", f"Conflicts to resolve: {', '.join(conflicts)}")
    if lines:
        text = "1 file" if len(lines) == 1 else f"{len(lines)} files"
        return Finding("changes", "note", f"{text} not committed; commit before an update.")
    return Finding("changes", "ok", "all committed")


def _normalized(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(".", "-")


def _print(findings: list[Finding]) -> None:
    from rich.text import Text

    console = screen.console()
    styles = {"ok": "green", "note": "yellow", "broken": "bold red"}
    for finding in findings:
        state = (f"{finding.state:8}", styles[finding.state])
        console.print(Text.assemble(state, f"{finding.what:10}{screen.in_a_line(finding.text)}"))
