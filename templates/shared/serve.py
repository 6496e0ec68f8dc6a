"""Answer requests over HTTP: `python -m <package>.serve [--run DIR] [--port 8000] [--backend onnx] ...`"""

from .config import plain_errors
from .serving.service import serve
from .serving.settings import parse_settings


def main() -> None:
    with plain_errors():
        serve(*parse_settings())


if __name__ == "__main__":
    main()
