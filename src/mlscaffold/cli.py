"""The command line: reads what was typed, calls the verb, and alone prints errors and exits."""

import gc
import os
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from mlscaffold import __version__
from mlscaffold.catalogue.choose import questions
from mlscaffold.catalogue.flags import with_flags
from mlscaffold.catalogue.questions import Answer, read
from mlscaffold.errors import STOPPED, MlscaffoldError, UsageError, masked
from mlscaffold.releases.own import template_root
from mlscaffold.screen import in_a_line, protect, shown
from mlscaffold.system.terminal import expand

EXAMPLES = """\b
  mlscaffold new digits --framework ignite --ddp    asks for the rest
  mlscaffold new digits --yes --train               asks nothing, installs, trains
"""
NEW_EXAMPLES = """\b
Examples:
  mlscaffold new digits --framework ignite --ddp
  mlscaffold new --answers other/.copier-answers.yml --dry-run
"""

# What Typer raises for whatever it cannot read; of these classes it makes one alone public.
WRONG_USAGE = cast("type[Exception]", typer.BadParameter.__base__)
LONGEST = 1000  # characters of an error; some repeat what was typed

UPDATE_EXAMPLES = """\b
Examples:
  mlscaffold update --dry-run     what would change
  mlscaffold update --yes         asks nothing
Ends with 1 when conflicts remain.
"""
SET_EXAMPLES = """\b
Examples:
  mlscaffold set serving=fastapi loggers+=wandb
  mlscaffold set framework=ignite --dry-run
"""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, change nothing.")]
ShowDiff = Annotated[bool, typer.Option("--diff", help="Show the lines that change, too.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]


def build() -> typer.Typer:
    """Put the commands together; the flags of `new` come from the catalogue."""
    app = typer.Typer(
        name="mlscaffold",
        help="Make PyTorch training projects that work at once and stay up to date.",
        epilog=EXAMPLES,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # half the lines and half the time
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    app.command(epilog=NEW_EXAMPLES)(with_flags(read(template_root()))(new))
    app.command()(web)
    app.command()(options)
    app.command()(with_flags(questions())(choose))
    app.command(epilog=UPDATE_EXAMPLES)(update)
    app.command("set", epilog=SET_EXAMPLES)(set_answers)
    app.command()(diff)
    app.add_typer(build_kit())
    app.command()(doctor)
    return app


def build_kit() -> typer.Typer:
    """Put the commands about starter kits together."""
    app = typer.Typer(
        name="kit",
        help="Make, check and look at starter kits.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    app.command("new")(kit_new)
    app.command("check")(kit_check)
    app.command("list")(kit_list)
    app.command("show")(kit_show)
    app.command("release")(kit_release)
    return app


def print_version(wanted: bool) -> None:
    if wanted:
        print(f"mlscaffold {__version__}")
        raise typer.Exit


VERSION = typer.Option("--version", help="Print the version.", is_eager=True, callback=print_version)


def root(version: Annotated[bool, VERSION] = False) -> None:
    """Options that come before a command."""


def new(
    dest: Annotated[
        Path | None, typer.Argument(help="Folder to make; by default the project's name.")
    ] = None,
    answers: Annotated[Path | None, typer.Option(help="Take answers from this YAML file.")] = None,
    kit: Annotated[str | None, typer.Option(help="Start from a team's kit: folder, name or git URL.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; use defaults.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the files, write nothing.")] = False,
    as_json: Json = False,
    no_git: Annotated[bool, typer.Option("--no-git", help="Make no repository and no commit.")] = False,
    install: Annotated[bool, typer.Option("--install", help="Install it, by uv or pip.")] = False,
    train: Annotated[bool, typer.Option("--train", help="Install it and train for a moment.")] = False,
    *,
    flags: dict[str, Answer],
) -> None:
    """Make a project. On a terminal it asks what no flag says."""
    from mlscaffold.new.command import Wish, new

    wish = Wish(
        dest=dest and expand(dest),
        answers_file=answers and expand(answers),
        kit=kit,
        yes=yes,
        dry_run=dry_run,
        as_json=as_json,
        git=not no_git,
        install=install,
        train=train,
    )
    new(wish, flags)


def web(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any that is free.")] = 8765,
    no_open: Annotated[bool, typer.Option("--no-open", help="Open no browser.")] = False,
) -> None:
    """See a project on a page in your browser, then make it."""
    from mlscaffold.web.server import serve

    serve(port, open_browser=not no_open)


def options(
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of the README.")] = False,
) -> None:
    """List the options, their choices and the rules between them."""
    from mlscaffold.catalogue.options import options

    options(read(template_root()), as_json=as_json, markdown=markdown)


def choose(
    as_json: Json = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="Show what each answer weighs, and why.")
    ] = False,
    *,
    flags: dict[str, Answer],
) -> None:
    """Find out which framework suits a project, and why."""
    from mlscaffold.catalogue.choose import choose

    choose(read(template_root()), flags, as_json=as_json, weights=weights)


def update(
    to: Annotated[str | None, typer.Option(help="Go to this release, not the newest.")] = None,
    dry_run: DryRun = False,
    show_diff: ShowDiff = False,
    as_json: Json = False,
    yes: Yes = False,
) -> None:
    """Bring the project in this folder to a newer template."""
    from mlscaffold.update.command import How, update

    how = How(dry_run=dry_run, show_diff=show_diff, as_json=as_json, yes=yes)
    if not update(Path.cwd(), to, how):
        raise typer.Exit(1)


def set_answers(
    changes: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="+= and -= for lists.")],
    dry_run: DryRun = False,
    show_diff: ShowDiff = False,
    as_json: Json = False,
    yes: Yes = False,
) -> None:
    """Change answers of the project in this folder; its template stays."""
    from mlscaffold.update.command import How, change

    how = How(dry_run=dry_run, show_diff=show_diff, as_json=as_json, yes=yes)
    if not change(Path.cwd(), changes, how):
        raise typer.Exit(1)


def diff(
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Other answers.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Another release; by default the newest.")] = None,
    as_json: Json = False,
) -> None:
    """Show what an update or other answers would change."""
    from mlscaffold.update.command import diff

    if changes and to:
        raise UsageError("--set and --to exclude each other.", "Give one of them.")
    diff(Path.cwd(), to, changes or [], as_json=as_json)


KitReference = Annotated[str, typer.Argument(metavar="KIT", help="A folder, an installed kit, or a git URL.")]


def kit_new(folder: Annotated[Path, typer.Argument(help="Folder to make.")]) -> None:
    """Start a kit."""
    from mlscaffold.kits.commands import start

    start(expand(folder))


def kit_check(
    kit: KitReference,
    train: Annotated[
        bool, typer.Option("--train/--no-train", help="Also train a covering set; it runs code.")
    ] = False,
) -> None:
    """Prove a kit: render all that it allows, parse every file."""
    from mlscaffold.kits.commands import check

    check(read(template_root()), kit, train=train)


def kit_list(as_json: Json = False) -> None:
    """List the installed kits."""
    from mlscaffold.kits.commands import show_installed

    show_installed(read(template_root()), as_json=as_json)


def kit_show(kit: KitReference, as_json: Json = False) -> None:
    """Describe a kit: its defaults, its locks, its files."""
    from mlscaffold.kits.commands import show

    show(read(template_root()), kit, as_json=as_json)


def kit_release(
    folder: Annotated[Path, typer.Argument(help="Folder of kit.yml.")],
    version: Annotated[str, typer.Argument(help="Such as 1.0.0.")],
) -> None:
    """Add the kit as it is to the releases that its package carries."""
    from mlscaffold.kits.commands import release

    release(read(template_root()), expand(folder), version)


def doctor(as_json: Json = False) -> None:
    """Check git, Python, torch, devices and this folder's project."""
    from mlscaffold.doctor import doctor

    if not doctor(read(template_root()), Path.cwd(), as_json=as_json):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; whatever goes wrong is told in a line or two, without a traceback."""
    protect()
    gc.disable()  # there is nothing to collect in a process this short, and looking takes a tenth of its time
    try:
        try:
            code = build()(standalone_mode=False)
        finally:
            _flush()
    except MlscaffoldError as error:
        _fail(str(error), error.exit_code)
    except WRONG_USAGE as error:
        _refuse(error)
    except KeyboardInterrupt:
        code = STOPPED
    except Exception as error:
        if os.environ.get("MLSCAFFOLD_DEBUG"):
            raise
        kind = type(error).__name__
        remedy = "This should not happen; MLSCAFFOLD_DEBUG=1 shows where it does."
        _fail(masked(f"{kind}: {in_a_line(str(error))}. {remedy}"), 1)
    finally:
        gc.freeze()  # nor has it at its end, where Python would look once more
    if code == STOPPED:  # Typer makes it of Ctrl-C, too
        if sys.stderr.isatty():
            print(file=sys.stderr)  # the terminal has written ^C
        _fail("Stopped.", code)
    sys.exit(code)


def _refuse(error: Any) -> None:
    """Tell in one line what Typer could not read; no command is no usage either, and gets the help."""
    if error.ctx and error.message == error.ctx.get_help():
        print(error.message, file=sys.stderr)
        sys.exit(error.exit_code)
    wrong = error.message if (near := getattr(error, "possibilities", None)) else error.format_message()
    remedies = [f"Did you mean {near[0]}?"] if near else []
    remedies += [f"`{error.ctx.command_path} --help` lists what there is."] if error.ctx else []
    _fail(" ".join([wrong if wrong.endswith((".", "?")) else f"{wrong}.", *remedies]), error.exit_code)


def _flush() -> None:
    """Write what is left for standard output, while it can still be told that this fails."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        if not isinstance(error, BrokenPipeError):  # a reader that stops early, such as head, is no mistake
            wrong = f"standard output cannot be written: {error.strerror}."
            raise MlscaffoldError(wrong) from error


def _fail(text: str, code: int) -> None:
    text = shown(text)
    print(f"mlscaffold: {text[:LONGEST]}{' ...' if len(text) > LONGEST else ''}", file=sys.stderr)
    sys.exit(code)
