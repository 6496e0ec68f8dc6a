"""Answer requests over HTTP: `python -m <package>.serve [--run DIR] [--port 8000] [--backend onnx] ...`"""

from .config import quick_imports
from .errors import plain_errors
from .serving.settings import parse_settings


def main() -> None:
    with plain_errors():
        run, settings = parse_settings()
        with quick_imports():
            from .serving.service import serve  # brings torch, which --help does not wait for

        serve(run, settings)


if __name__ == "__main__":
    main()
