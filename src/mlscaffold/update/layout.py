"""Tell a change of a Python file's layout from one of its meaning: other quotes, another line length."""

import ast
import io
import tokenize
from inspect import cleandoc

Meaning = tuple[str, tuple[str, ...]]
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def meaning(text: str) -> Meaning | None:
    """What a formatter leaves as it is: the syntax tree, and the comments in order; `None` for no Python."""
    try:
        tree = ast.parse(text)
        words = tokenize.generate_tokens(io.StringIO(text).readline)
        comments = tuple(word.string.lstrip("# ") for word in words if word.type == tokenize.COMMENT)
        for node in ast.walk(tree):
            if isinstance(node, DOCUMENTED) and (said := ast.get_docstring(node, clean=False)):
                node.body[0] = ast.Expr(ast.Constant(cleandoc(said).rstrip()))
        return ast.dump(tree), comments
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
        return None
