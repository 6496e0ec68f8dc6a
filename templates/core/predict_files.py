"""Predict with the best weights of a run: `python -m <package>.predict [--run DIR] [--to DIR] INPUT ...`

Prints a line of JSON for each input. What of a prediction is a file is written into a folder; the line has its path.
"""

import base64
import json
import re
from pathlib import Path
from typing import Any

from .config import parse
from .errors import UserError, plain_errors
from .paths import File


class Folder:
    """The folder that files are written into; raises `UserError` where they could take the place of inputs."""

    def __init__(self, path: Path, arguments: list[str]) -> None:
        self.path, self.names = path, list[str]()
        for given in (Path(argument).expanduser().resolve() for argument in arguments):
            inside = given.is_dir() and path.resolve().is_relative_to(given)
            if inside or (given.is_file() and path.resolve() == given.parent):
                raise UserError(f"to={path}: inputs may lie there, and would be written over. Give another folder.")
        path.mkdir(parents=True, exist_ok=True)

    def save(self, name: str, prediction: dict[str, Any], suffixes: dict[str, str]) -> dict[str, Any]:
        """Write the parts of a prediction that are files; return it with their paths.

        A file has the name of its input, and a number where another input has the same name.
        """
        stem = re.sub(r"\.\w+(?=(\[\d+])?$)", "", Path(name).name)
        self.names.append(stem)
        number = f"-{self.names.count(stem)}" if self.names.count(stem) > 1 else ""
        paths = {part: self.path / f"{stem}{number}{suffix}" for part, suffix in suffixes.items()}
        for part, path in paths.items():
            path.write_bytes(base64.b64decode(prediction[part]))
        return prediction | {part: str(path) for part, path in paths.items()}


def main() -> None:
    with plain_errors():
        inputs = {"nargs": "+", "type": str, "help": "see task/inputs.py"}
        to = {"type": File, "help": "folder for the files of predictions; without it, `predictions` in the run's"}
        cfg, args = parse("predict", of_run=True, inputs=inputs, **{"--to": to})
        from .task.inputs import FILES
        from .trained import predict  # brings torch, which --help does not wait for

        folder = Folder(args.to or args.run / "predictions", args.inputs)
        for name, prediction in predict(args.run, cfg, args.inputs):
            print(json.dumps({"input": name, **folder.save(name, prediction, FILES)}))


if __name__ == "__main__":
    main()
