"""The command line beside copier, cookiecutter and uv: start-up, a new project, completion."""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl

from mlscaffold.catalogue.questions import read
from mlscaffold.releases.own import template_root
from mlscaffold.rendering.render import render

ROOT = Path(__file__).parents[1]
PLOT = ROOT / "docs/benchmarks/tool.svg"
ROUNDS = 21
PROJECTS = 300  # rendered and written in one process

PAGE = """\
# The command line beside its peers

What `python -m benchmarks tool` measured: each command {rounds} times, all in turn, in one environment into
which pip installed this package, copier, cookiecutter and uv
({versions}),
on {cores} CPU cores. Times are in milliseconds; ratios are between medians. On a machine that others use,
the clock tells of them as well; CPU time does not.

{table}

![The medians as bars](tool.svg)

| Goal | Measured | in CPU time |
|---|---:|---:|
{goals}

`copier` copies the same template, `cookiecutter` the files of the same project, `uv init` makes a
package of a few files, and is a compiled program. In CPU time, a Python program that does nothing takes
{python:.0f} ms, and one that imports Typer, PyYAML, Jinja and pathspec and does nothing {imports:.0f} ms
(`its imports`) of the {new:.0f} ms of `new`. 2.5 times `uv init` are {most:.0f} ms: no program gets
there that goes through Typer and Jinja. The rest of `new` reads the catalogue, checks the answers,
renders and writes. Templates are compiled once and kept: [why and
where](../decisions/0007-compiled-templates.md).
"""


@dataclass
class Timed:
    """A command, and the seconds that each of its runs took."""

    name: str
    command: Sequence[str]
    settings: Mapping[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    @property
    def median_ms(self) -> float:
        return 1000 * statistics.median(self.seconds)

    @property
    def cpu_ms(self) -> float:
        return 1000 * statistics.median(self.cpu_seconds)

    @property
    def least_ms(self) -> float:
        return 1000 * min(self.seconds)


def measure() -> str:
    """Install everything into a scratch environment, run it in turn, and write the page and its plot."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        scripts = install(scratch / "env")
        commands = list_commands(scripts, scratch)
        for number in range(1 + ROUNDS):
            for timed in commands:
                seconds, cpu_seconds = run(timed, scratch / "work")
                if number:  # the first fills the caches: of bytecode, of templates, of the disk
                    timed.seconds.append(seconds)
                    timed.cpu_seconds.append(cpu_seconds)
        rates = projects_per_second(scripts / "python", scratch / "many")
        versions = installed_versions(scripts / "python")
    draw(commands)
    by_name = {timed.name: timed for timed in commands}
    return PAGE.format(
        rounds=ROUNDS, versions=versions, cores=os.cpu_count(), table=as_table(commands),
        goals=as_goals(by_name, rates), python=by_name["python -c pass"].cpu_ms,
        imports=by_name["its imports"].cpu_ms, most=2.5 * by_name["uv init"].cpu_ms,
        new=by_name["mlscaffold new"].cpu_ms,
    )  # fmt: skip


def install(environment: Path) -> Path:
    """Make an environment with all four tools from the package index, as their users have them."""
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    scripts = environment / "bin"
    wanted = ["copier", "cookiecutter", "uv", str(ROOT)]
    subprocess.run(
        [scripts / "python", "-m", "pip", "install", "-qq", "-c", ROOT / "constraints.txt", *wanted],
        check=True,
    )
    return scripts


def list_commands(scripts: Path, scratch: Path) -> list[Timed]:
    source = commit_template(scratch / "template")
    cookie = write_cookie(scratch / "cookie")
    typed = {"COMP_WORDS": "mlscaffold new --fra", "COMP_CWORD": "2"}
    completion = {"_MLSCAFFOLD_COMPLETE": "complete_bash", **typed}
    uv_init = [str(scripts / "uv"), "init", "--quiet", "--package"]
    tools = ("mlscaffold", "copier", "cookiecutter", "uv")
    return [
        Timed("python -c pass", [str(scripts / "python"), "-c", "pass"]),
        Timed("its imports", [str(scripts / "python"), "-c", "import typer.main, yaml, jinja2, pathspec"]),
        *(Timed(f"{tool} --help", [str(scripts / tool), "--help"]) for tool in tools),
        Timed("mlscaffold completion", [str(scripts / "mlscaffold")], completion),
        Timed("mlscaffold new", [str(scripts / "mlscaffold"), "new", "p", "--yes", "--no-git"]),
        Timed(
            "copier copy",
            [str(scripts / "copier"), "copy", "--defaults", "--quiet", "--vcs-ref", "HEAD", str(source), "p"],
        ),
        Timed("cookiecutter", [str(scripts / "cookiecutter"), "--no-input", str(cookie)]),
        Timed("uv init", [*uv_init, "p"]),
        Timed("uv init --vcs none", [*uv_init, "--vcs", "none", "p"]),
    ]


def commit_template(folder: Path) -> Path:
    """Put the template, as it is now, into a git repository of its own for Copier to copy."""
    shutil.copytree(ROOT / "templates", folder / "templates", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "copier.yml", folder)
    identity = ["-c", "user.name=b", "-c", "user.email=b@example.invalid"]
    for arguments in (["init", "--quiet"], ["add", "--all"], [*identity, "commit", "--quiet", "-m", "now"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder


def write_cookie(folder: Path) -> Path:
    """Write the files of the default project as a template of cookiecutter, which renders each of them."""
    for name, file in render({"project": "p"}).items():
        path = folder / "{{ cookiecutter.name }}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{{% raw %}}{file.content.decode()}{{% endraw %}}", encoding="utf-8")
    (folder / "cookiecutter.json").write_text(json.dumps({"name": "p"}), encoding="utf-8")
    return folder


def run(timed: Timed, work: Path) -> tuple[float, float]:
    """Run a command in an empty folder; return how many seconds it took, by the clock and of the CPU."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # uv asks the first Python on PATH that is no virtual environment; a shim in its place would take longer.
    kept["PATH"] = f"{Path(timed.command[0]).parent}:{sys.base_prefix}/bin:{kept['PATH']}"
    begin, cpu_begin = time.perf_counter(), cpu_of_children()
    subprocess.run(
        timed.command, cwd=work, env=kept | dict(timed.settings), stdin=subprocess.DEVNULL,
        capture_output=True, check=True,
    )  # fmt: skip
    return time.perf_counter() - begin, cpu_of_children() - cpu_begin


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def projects_per_second(python: Path, folder: Path) -> tuple[float, float]:
    """Render and write projects of all frameworks in one process of the scratch environment."""
    values = [str(value) for value in read(template_root())["framework"].values]
    script = (
        "import sys, time; from pathlib import Path\n"
        "from mlscaffold.rendering import target; from mlscaffold.rendering.render import render\n"
        f"values, count, folder = {values!r}, {PROJECTS}, Path(sys.argv[1])\n"
        "begin, cpu_begin = time.perf_counter(), time.process_time()\n"
        "for number in range(count):\n"
        "    with target.staged(folder / str(number)) as staging:\n"
        "        target.write(render({'framework': values[number % len(values)]}), staging)\n"
        "print(count / (time.perf_counter() - begin), count / (time.process_time() - cpu_begin))"
    )
    done = subprocess.run([python, "-c", script, folder], capture_output=True, text=True, check=True)
    by_clock, by_cpu = map(float, done.stdout.split())
    return by_clock, by_cpu


def installed_versions(python: Path) -> str:
    script = (
        "import importlib.metadata as m, platform\n"
        "tools = ['mlscaffold', 'copier', 'cookiecutter', 'uv', 'typer']\n"
        "found = [f'{tool} {m.version(tool)}' for tool in tools]\n"
        "print(', '.join([f'Python {platform.python_version()}', *found]))"
    )
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def as_table(commands: Sequence[Timed]) -> str:
    lines = ["| Command | least | median | CPU, median |", "|---|---:|---:|---:|"]
    for timed in commands:
        lines.append(
            f"| `{timed.name}` | {timed.least_ms:.0f} | {timed.median_ms:.0f} | {timed.cpu_ms:.0f} |"
        )
    return "\n".join(lines)


def as_goals(by_name: Mapping[str, Timed], rates: tuple[float, float]) -> str:
    rows = [
        ("mlscaffold --help", "copier --help", 0.45),
        ("mlscaffold new", "copier copy", 0.25),
        ("mlscaffold new", "uv init", 2.5),
        ("mlscaffold completion", "mlscaffold --help", 1.0),
    ]
    lines = []
    for ours, theirs, most in rows:
        one, other = by_name[ours], by_name[theirs]
        ratios = f"{one.median_ms / other.median_ms:.2f} | {one.cpu_ms / other.cpu_ms:.2f}"
        lines.append(f"| `{ours}` at most {most} of `{theirs}` | {ratios} |")
    by_clock, by_cpu = rates
    last = f"| at least 150 projects a second, written in one process | {by_clock:.0f} | {by_cpu:.0f} |"
    return "\n".join([*lines, last])


def draw(commands: Sequence[Timed]) -> None:
    """Draw the medians as bars, ours in another colour."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mlscaffold"  # the same figure gives the same file
    from matplotlib import pyplot as plt

    shown = [timed for timed in reversed(commands) if timed.name not in ("python -c pass", "its imports")]
    figure, axes = plt.subplots(figsize=(8, 0.4 * len(shown) + 0.8), layout="constrained")
    colours = ["tab:blue" if timed.name.startswith("mlscaffold") else "lightgray" for timed in shown]
    bars = axes.barh([timed.name for timed in shown], [timed.median_ms for timed in shown], color=colours)
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.set_xlabel("median, ms")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PLOT, metadata={"Date": None})
    plt.close(figure)
