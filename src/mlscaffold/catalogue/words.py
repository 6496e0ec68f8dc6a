"""Write answers as words of a command line; without Typer, so that a browser can run it, too."""

import shlex
from pathlib import Path

from mlscaffold.catalogue.questions import NAME, Answer, Answers, Catalogue, Question, folder_name, plain


def flag_name(question: Question) -> str:
    return f"--{question.name.replace('_', '-')}"


def flag_words(question: Question, answer: Answer) -> list[str]:
    """Write an answer as words of a command line."""
    name = flag_name(question)
    if isinstance(answer, bool):
        return [name if answer else name.replace("--", "--no-", 1)]
    text = plain(answer)
    return [f"{name}={text}"] if text.startswith("-") else [name, text]


def recreate(catalogue: Catalogue, answers: Answers, path: Path, kit: str | None = None) -> str:
    """Write the command that makes the same project again: the answers that differ from their defaults."""
    words = ["mlscaffold", "new", str(path) if not str(path).startswith("-") else f"./{path}", "--yes"]
    words += ["--kit", kit] if kit else []
    for name, answer in catalogue.differing(answers, {NAME: folder_name(path)}).items():
        words += flag_words(catalogue[name], answer)
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """Quote a word for a shell in one line, line ends as well: bash, zsh and POSIX of 2024 read `$'...'`."""
    if word.isprintable():
        return shlex.quote(word)
    signs = (sign if sign.isprintable() and sign not in "'\\" else _octal(sign) for sign in word)
    return f"$'{''.join(signs)}'"


def _octal(sign: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in sign.encode(errors="surrogateescape"))
