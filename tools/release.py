"""Add a release of the template to `src/mlscaffold/releases.bundle`: `make release VERSION=0.2.0`.

A release is a commit without a parent, tagged `v<version>`, that holds only `copier.yml` and `templates/` as
they are committed here. Author, date and message are fixed: whoever builds it gets the same hash, and
`mlscaffold.releases.hashes` computes it without git.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from packaging.version import InvalidVersion, Version

from mlscaffold.errors import MlscaffoldError
from mlscaffold.releases.bundle import append, releases
from mlscaffold.releases.hashes import commit_hash
from mlscaffold.releases.own import TEMPLATE, template_tree

PACKAGE = Path("src/mlscaffold")


def main() -> None:
    """Release the version that is named on the command line, from the repository in this folder."""
    if len(sys.argv) != 2 or not sys.argv[1]:
        raise SystemExit("release: no version was given. Name it: make release VERSION=0.2.0.")
    try:
        print(release(Path.cwd(), sys.argv[1]))
    except MlscaffoldError as error:
        raise SystemExit(f"release: {error}") from None


def release(root: Path, version: str) -> str:
    """Write the release into the bundle and its version into the package; return what to say about it."""
    bundle = root / PACKAGE / "releases.bundle"
    tag = f"v{checked(version)}"
    tree = committed_tree(root)
    commit = commit_hash(tree, tag)
    existing = releases(bundle)
    if existing.get(tag, commit) != commit:
        raise MlscaffoldError(f"{tag} is released with other files.", "Give these a newer version.")
    if tag not in existing:
        require_newer(version, existing)
        require_changelog(root, version)
        append(bundle, root, TEMPLATE, tag)
    set_version(root / PACKAGE / "__init__.py", version)
    if tag in existing:
        return f"{tag} is released already, with these files: {commit}."
    return (
        f"{tag} is {commit}.\nNext: git add {PACKAGE} && git commit -m 'Release {version}' && git tag {tag}"
    )


def checked(version: str) -> str:
    """Return a version that is written as PEP 440 writes it, since its tag is compared as text."""
    try:
        canonical = Version(version)
    except InvalidVersion:
        remedy = "Write it as in 0.2.0 or 0.2.0rc1."
        raise MlscaffoldError(f"{version!r} is no version by PEP 440.", remedy) from None
    if version != canonical.public:
        raise MlscaffoldError(f"{version!r} is not how a release is written.", f"Write {canonical.public}.")
    return version


def committed_tree(root: Path) -> str:
    """Return the tree of the committed template, certain that a wheel would hold the same files."""
    changed = git(root, "status", "--porcelain", "--untracked-files=all", "--", *TEMPLATE)
    if changed:
        raise MlscaffoldError(f"The template has changes that are not committed. Commit them:\n{changed}")
    for line in git(root, "ls-tree", "-r", "-z", "HEAD", "--", *TEMPLATE).split("\0"):
        if line:
            require_plain_file(root, *line.split("\t", 1))
    entries = git(root, "ls-tree", "HEAD", "--", *TEMPLATE)
    tree = git(root, "mktree", given=f"{entries}\n".encode())
    if tree != template_tree(root):
        raise MlscaffoldError(
            "The template's folders hold files that git ignores, or files other than those committed.",
            "A wheel would hold them too: see `git status --ignored copier.yml templates`, and remove them.",
        )
    return tree


def require_plain_file(root: Path, entry: str, path: str) -> None:
    """Refuse what a wheel or Windows would not keep: links, and scripts that only their mode makes one."""
    mode = entry.split(" ", 1)[0]
    if mode not in ("100644", "100755"):
        raise MlscaffoldError(f"{path} is a link, which no wheel can hold.", "Put the file itself there.")
    script = (root / path).read_bytes().startswith(b"#!")
    if script and mode == "100644":
        raise MlscaffoldError(f"{path} begins with #!, but is not executable.", f"Run chmod +x '{path}'.")
    if mode == "100755" and not script:
        raise MlscaffoldError(f"{path} is executable, but has no #! line.", f"Run chmod -x '{path}'.")


def require_newer(version: str, existing: dict[str, str]) -> None:
    """Refuse to release backwards: an update goes to the highest version there is."""
    newest = max(existing, key=Version, default=None)
    if newest and Version(version) <= Version(newest):
        wrong = f"{version} is not newer than {newest}, the last release."
        raise MlscaffoldError(wrong, "Choose a newer version.")


def require_changelog(root: Path, version: str) -> None:
    """Refuse a release that CHANGELOG.md does not describe."""
    path = root / "CHANGELOG.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    section = re.search(rf"^## \[{re.escape(version)}\].*\n([^#]|#(?!# ))*", text, re.MULTILINE)
    if not section or not section[0].partition("\n")[2].strip():
        remedy = f"Say what changed, under `## [{version}] - <date>`."
        raise MlscaffoldError(f"CHANGELOG.md says nothing about {version}.", remedy)


def set_version(path: Path, version: str) -> None:
    """Write the package's version into its `__init__.py`."""
    text = path.read_text(encoding="utf-8")
    changed, count = re.subn(r'^__version__ = ".*"$', f'__version__ = "{version}"', text, flags=re.MULTILINE)
    if count != 1:
        raise MlscaffoldError(f'{path} has no line `__version__ = "…"`.', "Put it back.")
    path.write_text(changed, encoding="utf-8", newline="\n")


def git(folder: Path, *arguments: str, given: bytes = b"") -> str:
    """Run git in a folder, whatever repository a surrounding hook points at; return what it prints."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, input=given, env=settings, capture_output=True, check=False)
    if done.returncode:
        raise MlscaffoldError(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode().strip("\n")


if __name__ == "__main__":
    main()
