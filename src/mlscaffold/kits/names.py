"""Say what names of a kit's files can become, whatever is answered; refuse those of which nobody can tell.

A name is a template: `{% if service %}conftest.py{% endif %}`. What decides may be a text that one user alone
types, so every branch counts, and in place of a question each of its choices.
"""

from collections.abc import Iterable, Iterator
from itertools import product

from jinja2 import TemplateSyntaxError, nodes

from mlscaffold.catalogue.questions import Answers, Catalogue, read
from mlscaffold.errors import KitError, short
from mlscaffold.releases.own import template_root
from mlscaffold.rendering.render import answers_file, literal_excluder, template_files

MOST = 500  # that one name can become
DEEPEST = 20  # statements within each other, and questions that follow each other
TYPED = ("project", "package")  # questions of ours without choices, whose rules let no name of a tool through
COPIERS = ("answers_file", "sep")  # of `_copier_conf`, where Copier and mlscaffold say the same

Forms = frozenset[str]


class _UnknownError(Exception):
    """Nobody can tell what this becomes."""


def possible_names(overlay: Catalogue, answers: Answers) -> list[str]:
    """Every path that a kit's overlay can write; the questions in `TYPED` are as they are answered."""
    known = _Known(overlay, answers)
    excluded = literal_excluder(overlay)
    paths = (path for file in template_files(overlay) for path in known.paths(file.path))
    return sorted({path for path in paths if not excluded(path)})


class _Known:
    """What there is to know about an overlay before its questions are answered."""

    def __init__(self, overlay: Catalogue, answers: Answers) -> None:
        self.overlay, self.answers = overlay, answers
        self.ours = {question.name: question for question in read(template_root()).questions}
        self.theirs = {question.name: question for question in overlay.everything}

    def paths(self, path: str) -> Iterator[str]:
        """What a path can become; without a name in one of its parts, nothing is written."""
        try:
            parts = [sorted(self._text(part) - {""}) for part in path.split("/")]
            for forms in _bounded(parts):
                yield "/".join(forms)
        except (_UnknownError, TemplateSyntaxError) as error:
            raise KitError(
                f"The kit names a file {short(path)}, and nobody can tell what that becomes: {error}.",
                "In names, write {% if %}, {{ project }}, {{ package }} and questions with choices.",
            ) from error

    def _text(self, text: str, depth: int = 0) -> Forms:
        if not self.overlay.is_template(text):
            return frozenset({text})
        tree = self.overlay.environment.parse(text)
        _refuse_copiers_own(tree)
        return self._all(tree.body, depth)

    def _all(self, parts: Iterable[nodes.Node], depth: int) -> Forms:
        """What nodes that follow each other become."""
        if depth > DEEPEST:
            raise _UnknownError("it is too deep")
        return frozenset("".join(forms) for forms in _bounded([self._one(p, depth + 1) for p in parts]))

    def _one(self, node: nodes.Node, depth: int) -> Forms:
        match node:
            case nodes.TemplateData():
                return frozenset({node.data})
            case nodes.Const():
                return frozenset({str(node.value)})
            case nodes.Output():
                return self._all(node.nodes, depth)
            case nodes.If():
                branches = [node.body, node.else_, *(branch.body for branch in node.elif_)]
                return frozenset().union(*(self._all(branch, depth) for branch in branches))
            case nodes.CondExpr():
                other = self._one(node.expr2, depth) if node.expr2 else frozenset({""})
                return self._all([node.expr1], depth) | other
            case nodes.Getattr(node=nodes.Name(name="_copier_conf"), attr="answers_file"):
                return frozenset({answers_file(self.overlay)})
            case nodes.Name():
                return self._value(node.name, depth)
        raise _UnknownError(f"it holds a {type(node).__name__.lower()}")

    def _value(self, name: str, depth: int) -> Forms:
        """What stands for the name of a question."""
        question = self.theirs.get(name)
        if question is None:
            return frozenset({""})
        if question.computed and question.type != "bool":
            if not isinstance(question.default, str):
                raise _UnknownError(f"{name} is a list")
            return self._text(question.default, depth + 1)
        if name in self.answers and not question.computed:
            if name in TYPED:
                return frozenset({str(self.answers[name])})
            question = self.ours[name]
        values = question.values
        if not values or question.multiselect:
            raise _UnknownError(f"{name} is a question without choices")
        return frozenset(map(str, values))


def _bounded(parts: list[Forms] | list[list[str]]) -> Iterator[tuple[str, ...]]:
    number = 1
    for forms in parts:
        number *= len(forms)
    if number > MOST:
        raise _UnknownError(f"it can become more than {MOST} names")
    return product(*parts)


def _refuse_copiers_own(tree: nodes.Template) -> None:
    """Refuse what Copier knows and mlscaffold does not, so that both write files of the same names."""
    shared = [
        node.node
        for node in tree.find_all(nodes.Getattr)
        if isinstance(node.node, nodes.Name) and node.node.name == "_copier_conf" and node.attr in COPIERS
    ]
    for node in tree.find_all(nodes.Name):
        if (node.name.startswith("_") or node.name == "self") and not any(node is known for known in shared):
            raise _UnknownError(f"it depends on {node.name}")
