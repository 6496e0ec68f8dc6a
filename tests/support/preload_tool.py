"""What the server of forks of the command line imports once; it has made a project in memory, too."""

import importlib
import pkgutil

import mlscaffold
from mlscaffold.rendering.render import render

LATE = "copier questionary rich.console rich.markdown rich.table typer.rich_utils"

for module in pkgutil.walk_packages(mlscaffold.__path__, "mlscaffold."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
for name in LATE.split():
    importlib.import_module(name)
render({})
