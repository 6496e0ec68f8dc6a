"""How Sphinx builds the site from the repository's Markdown; in `make docs` a warning is an error."""

from pathlib import Path

from mlscaffold import __version__, choose, options
from mlscaffold.catalogue import read
from mlscaffold.source import template_root

HERE = Path(__file__).parent

project = "mlscaffold"
author = "mlscaffold contributors"
version = release = __version__

extensions = ["myst_parser"]
myst_heading_anchors = 3  # links to headings, as git hosts make them
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"mlscaffold {__version__}"

# Pages that the tool itself writes.
REFERENCE = {
    "options.md": f"# Options\n\n{options.as_markdown(read(template_root()))}",
    "choosing.md": f"# Choosing a framework\n\n{choose.as_markdown()}",
}
(HERE / "reference").mkdir(exist_ok=True)
for name, text in REFERENCE.items():
    (HERE / "reference" / name).write_text(text, encoding="utf-8")
