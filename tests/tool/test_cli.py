"""The command line as a whole: help, versions, completion, exit codes, errors without tracebacks."""

import subprocess
import sys
from collections.abc import Collection
from functools import partial
from pathlib import Path

import pytest

from mlscaffold import __version__
from mlscaffold.system.processes import run_to_the_end
from tests.support.command import COMMAND, refused
from tests.support.command import mlscaffold as run_mlscaffold
from tests.support.releases import clean_settings

mlscaffold = partial(run_mlscaffold, cold=True)  # as a user starts it
HEAVY = {"copier", "torch", "pydantic", "questionary", "prompt_toolkit", "rich.console", "numpy", "plumbum"}


def imported_by(*arguments: str, cwd: Path, heavy: Collection[str] = HEAVY, **settings: str) -> set[str]:
    """The modules that a command imports, of those that are heavy."""
    done = subprocess.run(
        [COMMAND[0], "-X", "importtime", *COMMAND[1:], *arguments],
        cwd=cwd,
        env=clean_settings() | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "mlscaffold.cli" in names
    return names.intersection(heavy)


def test_help_fits_a_screen_and_has_examples(tmp_path: Path) -> None:
    ran = mlscaffold("--help", cwd=tmp_path, COLUMNS="80")
    assert ran.code == 0
    assert len(ran.out.splitlines()) <= 24
    assert "mlscaffold new digits --framework ignite --ddp" in ran.out
    assert mlscaffold(cwd=tmp_path, COLUMNS="80").err == ran.out
    assert mlscaffold("-h", cwd=tmp_path, COLUMNS="80").out == ran.out


@pytest.mark.parametrize("command", ["new", "options", "choose", "doctor"])
def test_every_command_has_help_within_a_page(tmp_path: Path, command: str) -> None:
    ran = mlscaffold(command, "--help", cwd=tmp_path, COLUMNS="80")
    assert ran.code == 0
    assert len(ran.out.splitlines()) <= 50
    assert max(map(len, ran.out.splitlines())) <= 80


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    assert mlscaffold("--version", cwd=tmp_path).out == f"mlscaffold {__version__}\n"
    script = Path(sys.prefix, "bin/mlscaffold")
    assert subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout == (
        f"mlscaffold {__version__}\n"
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "No such command 'nonsense'. `mlscaffold --help` lists what there is."),
        (
            ["new", "--framwork", "ignite"],
            "No such option: --framwork. Did you mean --framework? "
            "`mlscaffold new --help` lists what there is.",
        ),
        (
            ["options", "x"],
            "Got unexpected extra argument(s) (x). `mlscaffold options --help` lists what there is.",
        ),
        (["new", "--yes=1"], "Option '--yes' does not take a value."),
        (["kit", "show"], "Missing argument 'KIT'. `mlscaffold kit show --help` lists what there is."),
    ],
)
def test_wrong_usage_is_told_as_every_error_and_exits_with_2(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    said = refused(*arguments, cwd=tmp_path, code=2, lines=1)
    assert said.replace("`python -m mlscaffold", "`mlscaffold") == f"mlscaffold: {told}\n"


TARGET = '        with path.open("xb") as new:  # follows no link, and replaces nothing'


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("cli.py", "import gc", ""),
        ("rendering/render.py", "    files = {}", "mlscaffold: Stopped.\n"),
        ("rendering/target.py", TARGET, "mlscaffold: Stopped.\n"),
        ("new/repository.py", "    return _commit(folder)", "mlscaffold: Stopped.\n"),
    ],
)
def test_ctrl_c_ends_with_130_and_leaves_nothing_whenever_it_comes(
    checkout: Path, tmp_path: Path, file: str, line: str, said: str
) -> None:
    """In a copy that sends itself the signal where it starts, renders, writes, or makes the repository."""
    code = checkout / "src/mlscaffold" / file
    indent = line[: -len(line.lstrip())]
    signal = f"{indent}import signal as s; s.signal(2, s.default_int_handler); s.raise_signal(2)"
    text = code.read_text(encoding="utf-8")
    assert text.count(f"{line}\n") == 1
    code.write_text(text.replace(line, f"{signal}\n{line}", 1), encoding="utf-8")
    (tmp_path / "here").mkdir()
    ran = mlscaffold("new", "a/digits", cwd=tmp_path / "here", PYTHONPATH=str(checkout / "src"))
    assert (ran.code, ran.out, ran.err) == (130, "", said)
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["new", "--help"],
        ["new", "digits", "--yes"],
        ["new", "d", "--json"],
        ["options", "--json"],
    ],
)
def test_nothing_heavy_is_imported_on_the_way(tmp_path: Path, arguments: list[str]) -> None:
    assert imported_by(*arguments, cwd=tmp_path) == set()


def test_help_does_without_jinja(tmp_path: Path) -> None:
    assert imported_by("new", "--help", cwd=tmp_path, heavy={"jinja2"}) == set()


def complete(line: str, cwd: Path, shell: str = "bash") -> list[str]:
    words = line.split(" ")
    settings = {
        "_MLSCAFFOLD_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    settings["_TYPER_COMPLETE_ARGS"] = line
    settings["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    done = subprocess.run(
        [Path(sys.prefix, "bin/mlscaffold")],
        cwd=cwd, env=clean_settings() | settings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.stderr
    return done.stdout.split()


def test_the_shell_completes_commands_flags_and_values(tmp_path: Path) -> None:
    assert {"new", "options", "choose", "update", "doctor"} <= set(complete("mlscaffold ", tmp_path))
    assert complete("mlscaffold new --fra", tmp_path) == ["--framework"]
    assert complete("mlscaffold new --framework ", tmp_path) == ["lightning", "ignite"]
    assert complete("mlscaffold new --strategy d", tmp_path) == ["ddp"]
    assert complete("mlscaffold new --loggers tensorboard,t", tmp_path) == ["tensorboard,tensorboard"]
    assert "ignite" in complete("mlscaffold new --framework i", tmp_path, "fish")


def test_completion_imports_nothing_heavy(tmp_path: Path) -> None:
    settings = {
        "_PYTHON_M_MLSCAFFOLD_COMPLETE": "complete_bash",
        "COMP_WORDS": "x new --fra",
        "COMP_CWORD": "2",
    }
    assert imported_by(cwd=tmp_path, **settings) <= {"rich.console"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_shown(tmp_path: Path, shell: str) -> None:
    ran = mlscaffold(
        "--show-completion", shell, cwd=tmp_path, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert ran.code == 0
    assert "COMPLETE" in ran.out


def test_output_in_a_pipe_has_no_colours(tmp_path: Path) -> None:
    for command in (["options"], ["new", "d", "--dry-run"], ["doctor"], ["choose"]):
        assert "\x1b" not in mlscaffold(*command, cwd=tmp_path, TERM="xterm-256color").out


def test_a_locale_without_the_letters_of_an_answer_does_no_harm(tmp_path: Path) -> None:
    ran = mlscaffold("new", "digits", "--description", "猫 é", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert (ran.code, ran.err) == (0, "")
    assert "\\u732b" in ran.out
    for command in (["new", "x", "--dry-run"], ["options"]):
        assert mlscaffold(*command, cwd=tmp_path, PYTHONIOENCODING="ascii").code == 0


def test_a_reader_that_stops_early_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{' '.join(COMMAND)} options | head -1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("--task  Task\n", "")


def test_an_unexpected_error_is_one_line_and_a_variable_shows_where(checkout: Path, tmp_path: Path) -> None:
    broken = checkout / "src/mlscaffold/catalogue/options.py"
    broken.write_text(
        broken.read_text(encoding="utf-8").replace("if as_json:", "if 1 / 0:", 1), encoding="utf-8"
    )
    settings = clean_settings() | {"PYTHONPATH": str(checkout / "src")}

    def run(**more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, "options"],
            cwd=tmp_path,
            env=settings | more,
            capture_output=True,
            text=True,
            check=False,
        )

    told = run()
    assert (told.returncode, len(told.stderr.splitlines())) == (1, 1)
    assert "ZeroDivisionError: division by zero" in told.stderr
    assert "MLSCAFFOLD_DEBUG=1" in told.stderr
    assert "Traceback" in run(MLSCAFFOLD_DEBUG="1").stderr


def test_an_installation_without_templates_says_so(checkout: Path, tmp_path: Path) -> None:
    (checkout / "copier.yml").unlink()
    ran = mlscaffold("--help", cwd=tmp_path, PYTHONPATH=str(checkout / "src"))
    assert ran.code == 1
    assert "Install mlscaffold anew." in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.parametrize("verb", ["options", "choose", "new p"])
def test_streams_that_are_closed_change_nothing(tmp_path: Path, verb: str, closed: str) -> None:
    """As some launchers close them; Python has None in their place."""
    done = subprocess.run(
        ["sh", "-c", f"exec '{sys.executable}' -m mlscaffold {verb} {closed}"],
        cwd=tmp_path,
        env=clean_settings(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p/pyproject.toml").exists() == (verb == "new p")


def test_home_is_found_where_a_shell_leaves_it_as_it_is(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    here = tmp_path / "here"
    here.mkdir()
    assert mlscaffold("new", "~/p", "--yes", "--no-git", "--framework=ignite", cwd=here, HOME=home).code == 0
    answers = "--answers=~/p/.copier-answers.yml"
    assert mlscaffold("new", answers, "~/q", "--yes", "--no-git", cwd=here, HOME=home).code == 0
    assert "framework: ignite" in (tmp_path / "home/q/.copier-answers.yml").read_text()
    assert mlscaffold("kit", "new", "~/kit", cwd=here, HOME=home).code == 0
    assert mlscaffold("kit", "show", "~/kit", cwd=here, HOME=home).code == 0
    assert not list(here.iterdir())
    told = refused("kit", "show", "~nobody-of-this-name/kit", cwd=here, code=1)
    assert told.startswith("mlscaffold: '~nobody-of-this-name/kit' is no folder")


def test_a_program_that_writes_in_another_encoding_is_heard(tmp_path: Path) -> None:
    speak = "import sys; sys.stderr.buffer.write(b'caf\\xe9')"
    done = run_to_the_end([sys.executable, "-c", speak], cwd=tmp_path, stderr=subprocess.PIPE)
    assert done.stderr == "caf\\xe9"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_that_lacks_signs_shows_them_as_escapes(tmp_path: Path, encoding: str) -> None:
    given = ("--description", "日本 café", "--yes", "--dry-run")
    for command in (("options",), ("doctor",), ("new", "p", *given), ("new", "p", *given, "--json")):
        ran = mlscaffold(*command, cwd=tmp_path, PYTHONIOENCODING=encoding)
        assert ran.code == mlscaffold(*command, cwd=tmp_path).code
        assert "should not happen" not in ran.err
