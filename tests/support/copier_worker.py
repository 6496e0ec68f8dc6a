"""Copier many times over: its own questions, rules and renderer; the template is cloned and compiled once.

`copier.run_copy` clones the template, compiles all its files and starts git for each file that it writes:
0.3 s a project, of which Copier's own decisions take a tenth. This uses private parts of Copier, so tests
also hold a sample against `run_copy`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from copier._main import Worker

from mlscaffold.catalogue.questions import Answers


class _Copying(Worker):
    """A worker whose template and compiled Jinja are those of the first one."""

    def _sync_git_index_executable_bit(self, dst_relpath: Path, src_mode: int) -> None:
        """Nothing to do: no project that we copy lies in a git repository."""


@contextmanager
def fast_copier(source: Path) -> Iterator["Copy"]:
    """Clone the template in `source` at HEAD; remove the clone at the end."""
    first = _Copying(str(source), vcs_ref="HEAD", defaults=True, quiet=True)
    compile_once = cache(first.jinja_env.from_string)
    setattr(first.jinja_env, "from_string", compile_once)  # noqa: B010 (a method, to a type checker)
    try:
        yield Copy(first)
    finally:
        first._cleanup()


class Copy:
    """Writes projects of one template."""

    def __init__(self, first: _Copying) -> None:
        self.first = first

    def __call__(self, answers: Answers, destination: Path) -> None:
        """Copy as `copier copy --defaults --data ...` does, into a folder that does not exist."""
        worker = _Copying(
            self.first.src_path,
            dst_path=destination,
            vcs_ref="HEAD",
            data=dict(answers),
            defaults=True,
            quiet=True,
        )
        vars(worker).update(template=self.first.template, jinja_env=self.first.jinja_env)
        worker.run_copy()
