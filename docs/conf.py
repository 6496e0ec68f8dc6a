"""How Sphinx builds the site from the repository's Markdown; in `make docs` a warning is an error."""

import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

from mlscaffold import __version__
from mlscaffold.catalogue import choose, options
from mlscaffold.catalogue.questions import read
from mlscaffold.releases.own import template_root

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


def as_markdown(path: Path) -> str:
    """A page's source; of one that stands in the repository's root, and is included, that text."""
    text = path.read_text(encoding="utf-8")
    included = re.match(r"```\{include\} (\S+)", text)
    return (
        (path.parent / included[1]).read_text(encoding="utf-8").replace("](docs/", "](") if included else text
    )


def write_markdown(app: Sphinx, error: Exception | None) -> None:
    """Put each page beside its HTML as Markdown, and `llms.txt`, which lists them, in the site's root."""
    if error or app.builder.name != "html":
        return
    for name in app.env.found_docs:
        target = Path(app.outdir, f"{name}.md")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(as_markdown(Path(app.env.doc2path(name))), encoding="utf-8")
    lines = [
        "# mlscaffold",
        "",
        "> Makes PyTorch training projects, with PyTorch Lightning or PyTorch-Ignite.",
    ]
    for group in app.env.get_doctree("index").findall(addnodes.toctree):
        lines += ["", f"## {group['caption']}", ""]
        for _, name in group["entries"]:
            texts = app.env.get_doctree(name).findall(nodes.paragraph)
            first = next(
                (text for text in texts if isinstance(text.parent, nodes.section)), nodes.paragraph()
            )
            sentence = " ".join(first.astext().split()).partition(". ")[0].rstrip(".:")
            lines.append(f"- [{app.env.titles[name].astext()}]({name}.md): {sentence}".removesuffix(": "))
    Path(app.outdir, "llms.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")


def setup(app: Sphinx) -> None:
    app.connect("build-finished", write_markdown)
