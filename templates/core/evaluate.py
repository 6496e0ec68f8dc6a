"""Score the best weights of a run on the test split: `python -m <package>.evaluate [--run DIR]`."""

from .config import parse, quick_imports
from .errors import plain_errors


def main() -> None:
    with plain_errors():
        cfg, args = parse("evaluate", of_run=True)
        with quick_imports():
            from .trained import evaluate  # brings torch, which --help does not wait for

        scores = evaluate(args.run, cfg)
        print("\n".join(f"test/{name} {score:.4f}" for name, score in scores.items()))


if __name__ == "__main__":
    main()
