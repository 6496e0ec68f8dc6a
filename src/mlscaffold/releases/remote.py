"""Serve the releases in this package to git, as the remote `mlscaffold::default`, and those of kits.

Git starts `git-remote-mlscaffold <remote> <address>` and speaks the protocol of gitremote-helpers(7) with it:
lines in, lines out, a blank line ends a list. All in bytes, since Windows ends text lines with CR LF.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from mlscaffold import __version__
from mlscaffold.errors import MlscaffoldError
from mlscaffold.releases.bundle import refs
from mlscaffold.releases.installed import bundle_of
from mlscaffold.screen import shown
from mlscaffold.system.git import git, reason

USAGE = "git-remote-mlscaffold is started by git, for addresses such as mlscaffold::default."


def main() -> None:
    """Answer git until it hangs up; what goes wrong is one line on stderr, which git passes on."""
    try:
        if len(sys.argv) != 3:
            raise SystemExit(USAGE)
        serve(bundle_of(sys.argv[2]))
    except MlscaffoldError as error:
        raise SystemExit(shown(f"mlscaffold {__version__}: {error}")) from None
    except (BrokenPipeError, KeyboardInterrupt):
        raise SystemExit(1) from None


def serve(bundle: Path) -> None:
    """Answer `capabilities`, `list` and `fetch`, all of them from one bundle."""
    for line in sys.stdin.buffer:
        match line.split():
            case [b"capabilities"]:
                answer(["fetch"])
            case [b"list", *_]:
                heads = [f"{commit} {ref}" for ref, commit in refs(bundle).items() if ref != "HEAD"]
                answer([*heads, "@refs/heads/main HEAD"])
            case [b"fetch", *_]:
                for rest in sys.stdin.buffer:  # git asks for each commit; a bundle comes as a whole
                    if not rest.strip():
                        break
                unbundle(bundle)
                answer([])
            case []:
                return
            case _:
                asked = line.decode(errors="replace").strip()
                raise MlscaffoldError(
                    f"git asks for {asked!r}, which is unknown here.", "Upgrade mlscaffold."
                )


def answer(lines: Iterable[str]) -> None:
    """Write lines and the blank one that ends them."""
    sys.stdout.buffer.write("".join(f"{line}\n" for line in [*lines, ""]).encode())
    sys.stdout.buffer.flush()


def unbundle(bundle: Path) -> None:
    """Put the objects of a bundle into the repository that git works on: it is in `GIT_DIR`."""
    done = git(Path.cwd(), "bundle", "unbundle", str(bundle), GIT_DIR=os.environ.get("GIT_DIR", ".git"))
    if done.returncode:
        raise MlscaffoldError(f"git could not read {bundle}: {reason(done)}", "Install mlscaffold anew.")
