"""Know where the template lies and which release it is.

Projects record a release as `_src_path: git+mlscaffold::default` and `_commit: v<version>`; `copier update`
fetches it through `git-remote-mlscaffold` from the bundle in this package. A release holds only `copier.yml`
and `templates/`.
"""

from functools import cache
from pathlib import Path

from mlscaffold import __version__
from mlscaffold.errors import MlscaffoldError

SOURCE = "git+mlscaffold::default"
TEMPLATE = ("copier.yml", "templates")  # what a release holds
PACKAGE = Path(__file__).resolve().parents[1]
BUNDLE = PACKAGE / "releases.bundle"


def template_root() -> Path:
    """Find the folder of `copier.yml` and `templates/`: in an installed wheel, or in a checkout."""
    installed = PACKAGE / "_template"
    root = installed if installed.is_dir() else PACKAGE.parents[1]
    if not (root / "copier.yml").is_file():
        raise MlscaffoldError(f"There are no templates in {root}.", "Install mlscaffold anew.")
    return root


@cache
def is_own(root: Path) -> bool:
    """Tell the templates of this installation from others, however the path of those is written."""
    place = root.resolve()
    return place == template_root() or place.is_relative_to(PACKAGE)


def recorded_commit() -> str | None:
    """Name the release whose files these are, `v0.1.0`, or `None` for files that nobody else has.

    `None` in a checkout that is ahead of its release or edited: a project that recorded a release there could
    not be updated from what it was really generated from.
    """
    from mlscaffold.releases.bundle import releases  # --help does without, and without hashes
    from mlscaffold.releases.hashes import commit_hash

    tag = f"v{__version__}"
    released = releases(BUNDLE).get(tag)
    if released is None or released != commit_hash(template_tree(template_root()), tag):
        return None
    return tag


def template_tree(root: Path) -> str:
    """Compute the hash that git gives to the tree of `copier.yml` and `templates/` in `root`."""
    from mlscaffold.releases.hashes import tree_hash

    return tree_hash(root, TEMPLATE)
