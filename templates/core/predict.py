"""Predict with the best weights of a run: `python -m <package>.predict [--run DIR] INPUT ...`

Prints a line of JSON for each input.
"""

import json

from .config import parse, quick_imports
from .errors import plain_errors


def main() -> None:
    with plain_errors():
        cfg, args = parse("predict", of_run=True, inputs={"nargs": "+", "type": str, "help": "see task/inputs.py"})
        with quick_imports():
            from .trained import predict  # brings torch, which --help does not wait for

        for name, prediction in predict(args.run, cfg, args.inputs):
            print(json.dumps({"input": name, **prediction}))


if __name__ == "__main__":
    main()
