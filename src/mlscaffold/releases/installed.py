"""Starter kits in installed packages, and the git bundles with their releases.

A package names its kit in the entry point group `mlscaffold.kits`: the kit's name, and the package whose
folder holds `kit.yml`. It is never imported.
"""

from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from mlscaffold.errors import KitError, MlscaffoldError
from mlscaffold.releases.own import BUNDLE

GROUP = "mlscaffold.kits"


def installed_kits() -> dict[str, EntryPoint]:
    """The kits of installed packages, by name."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


def folder_of(entry: EntryPoint) -> Path:
    """The folder of the package that an entry point names."""
    spec = find_spec(entry.value.partition(".")[0])
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise KitError(f"The kit {entry.name} names {entry.value}, which is no package.", "Install it anew.")
    return Path(places[0], *entry.value.split(".")[1:])


def bundle_of(address: str) -> Path:
    """The bundle behind `mlscaffold::<address>`: our own releases, or those of an installed kit."""
    if address == "default":
        bundle = BUNDLE
    elif entry := installed_kits().get(address):
        bundle = folder_of(entry) / BUNDLE.name
    else:
        known = ", ".join(f"mlscaffold::{name}" for name in ("default", *installed_kits()))
        raise MlscaffoldError(f"mlscaffold::{address} is no template source.", f"There is {known}.")
    if not bundle.is_file():
        raise MlscaffoldError(
            f"{bundle} is missing: no template is released here.", "Install a released version."
        )
    return bundle
