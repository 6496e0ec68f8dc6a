"""The commands about starter kits: start one, prove it, look at it, release it."""

import ast
import json
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import cast

import yaml
from packaging.version import InvalidVersion, Version

from mlscaffold import __version__, screen
from mlscaffold.catalogue.questions import Answer, Catalogue, folder_name, plain, read
from mlscaffold.errors import KitError, MlscaffoldError
from mlscaffold.kits.find import find_kit, installed_kit
from mlscaffold.kits.kit import Kit, read_kit, released_names
from mlscaffold.kits.obeyed import obeyed
from mlscaffold.releases.bundle import append, releases
from mlscaffold.releases.fetch import Templates
from mlscaffold.releases.installed import installed_kits
from mlscaffold.releases.own import BUNDLE
from mlscaffold.rendering import target
from mlscaffold.rendering.render import File, render
from mlscaffold.system.documents import Loader
from mlscaffold.system.processes import run_to_the_end

SKELETON = Path(__file__).with_name("skeleton")
LEFTOVERS = ("{{", "{%", "{#")
SMOKE = ["--config", "configs/smoke.yaml", "--max_steps", "4", "--num_threads", "1"]


def start(folder: Path) -> None:
    """Write the skeleton of a kit into a new folder."""
    answers: dict[str, Answer] = {"kit": folder_name(folder), "version": __version__}
    if objections := read(SKELETON).objections(answers):
        raise KitError(" ".join(objections.values()))
    with target.staged(folder) as staging:
        target.write(render(answers, SKELETON), staging)
    print(f"Made {folder}. Edit {folder}/kit.yml, then: mlscaffold kit check {folder} --train")


def show_installed(catalogue: Catalogue, *, as_json: bool) -> None:
    """List the kits of installed packages, those too that cannot be read."""
    found: dict[str, dict[str, object]] = {}
    for name, entry in installed_kits().items():
        try:
            found[name] = _described(installed_kit(entry, catalogue))
        except MlscaffoldError as error:
            found[name] = {"broken": str(error)}
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for name, about in found.items():
        print(f"{name}: {screen.in_a_line(str(about.get('description') or about.get('broken', '')))}")
    if not found:
        print("No kit is installed. A kit can also be a folder or a git address.")


def show(catalogue: Catalogue, reference: str, *, as_json: bool) -> None:
    """Describe one kit."""
    with Templates() as templates:
        kit = find_kit(reference, catalogue, templates)
        about = _described(kit) | _files(kit, catalogue)
    if as_json:
        print(json.dumps(about, indent=2))
        return
    for key, value in about.items():
        text = ", ".join(f"{k}={plain(v)}" for k, v in value.items()) if isinstance(value, dict) else value
        words = ", ".join(text) if isinstance(text, list) else str(text)
        print(f"{key + ':':13}{screen.in_a_line(words)}")


def _files(kit: Kit, catalogue: Catalogue) -> dict[str, object]:
    """The files of a kit, and those of them that programs obey by name."""
    complete = catalogue.resolve(kit.own_defaults(catalogue))
    project = render(complete)
    files = sorted(kit.overlay(complete, project))
    names = {*files, *kit.names(complete)}
    return {"files": files, "read_first": obeyed(project, names, kit.answers_file)}


def _described(kit: Kit) -> dict[str, object]:
    return {
        "name": kit.name,
        "description": kit.description,
        "mlscaffold": kit.versions,
        "release": kit.commit or "none: projects cannot update its files",
        "locks": kit.locks,
        "defaults": {name: answer for name, answer in kit.defaults.items() if name not in kit.locks},
    }


def check(catalogue: Catalogue, reference: str, *, train: bool) -> None:
    """Render every combination that a kit allows, and train a set that holds each choice of each question."""
    with Templates() as templates:
        kit = find_kit(reference, catalogue, templates)
        kit.require_this_version()
        allowed = list(_allowed(kit, catalogue))
        if not allowed:
            raise KitError(f"The kit {kit.name} allows no combination of answers.", "Lock fewer answers.")
        for answers in allowed:
            files = _overlay(kit, catalogue, answers)
            with kit.bounded():
                _parse(kit, files, answers)
        print(f"{kit.name}: {len(allowed)} combinations rendered, no file written twice, every file parses")
        if names := cast("list[str]", _files(kit, catalogue)["read_first"]):
            print(f"{kit.name}: programs obey by name, so read first: {', '.join(names)}")
        if train:
            chosen = covering(allowed)
            for number, answers in enumerate(chosen, 1):
                _train(kit, catalogue, answers)
                print(f"{kit.name}: trained {number} of {len(chosen)}: {_told(answers)}", flush=True)


def _allowed(kit: Kit, catalogue: Catalogue) -> Iterator[dict[str, Answer]]:
    """Every combination of the core questions that agrees with the locks; the others as the kit sets them."""
    own = kit.own_defaults(catalogue)
    for answers in catalogue.combinations():
        complete = own | answers
        locked = all(complete.get(name, answer) == answer for name, answer in kit.locks.items())
        if locked and not catalogue.objections(complete):
            yield complete


def covering(allowed: list[dict[str, Answer]]) -> list[dict[str, Answer]]:
    """A few of these combinations that together hold every answer that any of them holds."""
    missing = {(name, plain(answer)) for answers in allowed for name, answer in answers.items()}
    chosen = []
    while missing:
        best = max(allowed, key=lambda answers: len(missing & _pairs(answers)))
        chosen.append(best)
        missing -= _pairs(best)
    return chosen


def _pairs(answers: dict[str, Answer]) -> set[tuple[str, str]]:
    return {(name, plain(answer)) for name, answer in answers.items()}


def _told(answers: dict[str, Answer]) -> str:
    return " ".join(f"{name}={plain(answer)}" for name, answer in answers.items())


def _overlay(kit: Kit, catalogue: Catalogue, answers: dict[str, Answer]) -> dict[str, File]:
    complete = catalogue.resolve(kit.own_defaults(catalogue) | answers)
    return kit.overlay(complete, render(complete))


def _parse(kit: Kit, files: dict[str, File], answers: dict[str, Answer]) -> None:
    """Refuse a file that is not what its name says, or that still holds a trace of Jinja."""
    for name, file in files.items():
        try:
            text = file.content.decode()
            if name.endswith(".py"):
                ast.parse(text, name)
            elif name.endswith(".toml"):
                tomllib.loads(text)
            elif name.endswith((".yml", ".yaml")):
                for _ in yaml.parse(text, Loader):  # without building it, which aliases make endless
                    pass
        except UnicodeDecodeError:
            continue  # a picture
        except (SyntaxError, ValueError, RecursionError, MemoryError, yaml.YAMLError) as error:
            raise KitError(f"{kit.name}: {name} does not parse, with {_told(answers)}: {error}") from error
        if name.endswith((".py", ".toml")) and any(sign in text for sign in LEFTOVERS):
            raise KitError(f"{kit.name}: {name} holds template syntax, with {_told(answers)}.")


def _train(kit: Kit, catalogue: Catalogue, answers: dict[str, Answer]) -> None:
    """Train a project of the kit for a few steps, with the packages of this environment."""
    if find_spec("torch") is None:
        raise KitError(
            "There is no torch here to train with.", "Install a project's packages, or leave --train out."
        )
    complete = catalogue.resolve(kit.own_defaults(catalogue) | answers)
    with tempfile.TemporaryDirectory(prefix="mlscaffold-") as folder:
        project = Path(folder, "project")
        files = render(complete)
        target.write(files | kit.overlay(complete, files), project)
        module = ["-m", f"{complete['package']}.train", *SMOKE]
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
        command = [sys.executable, *(launcher if complete["strategy"] != "single" else []), *module]
        environment = _environment(project)
        done = run_to_the_end(command, cwd=project, env=environment, stdout=DEVNULL, stderr=PIPE)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-5:]
        raise KitError(f"{kit.name}: a project does not train, with {_told(answers)}:", "", *last)


def _environment(project: Path) -> dict[str, str]:
    import os

    own = {"PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    return {**os.environ, **own, "TMPDIR": str(project.parent)}  # torchrun leaves folders when it is stopped


def release(catalogue: Catalogue, folder: Path, version: str) -> None:
    """Add the kit in a folder to its bundle, `releases.bundle`, which its package has to carry."""
    kit = read_kit(folder, catalogue)
    _overlay(kit, catalogue, {})
    try:
        tag = f"v{Version(version)}"
    except InvalidVersion:
        raise KitError(f"{version!r} is no version.", "Write it as in 1.0.0.") from None
    bundle = folder / BUNDLE.name
    if tag in releases(bundle):
        raise KitError(f"{tag} is released already.", "A release never changes: choose a newer version.")
    append(bundle, folder, released_names(folder), tag)
    print(f"{bundle} holds {', '.join(releases(bundle))}.")
