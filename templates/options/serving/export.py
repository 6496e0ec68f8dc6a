"""Write the best weights of a run in formats that need no training code: `python -m <package>.export [--run DIR]`.

    python -m <package>.export --format torch-export,onnx

An exported model maps `INPUTS` to `OUTPUTS` of `task/inputs.py`. Each file is checked before it replaces an older one.
"""

import logging
import warnings

from .config import parse, quick_imports
from .errors import UserError, plain_errors
from .serving import FILES


def read_formats(given: list[str] | None) -> list[str]:
    """The formats of `--format`, each of which may name several."""
    formats = [name for names in given or ["torch-export,onnx"] for name in names.split(",")]
    if unknown := [name for name in formats if name not in FILES]:
        raise UserError(f"format={unknown[0]}: give some of {', '.join(FILES)}.")
    return list(dict.fromkeys(formats))


def main() -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it asks for packages that nothing here needs
    warnings.filterwarnings("ignore", module="torch|copyreg")  # `write` says what matters about formats
    with plain_errors():
        about = f"{', '.join(FILES)}, or several with commas (default: torch-export,onnx)"
        cfg, args = parse("export", of_run=True, **{"--format": {"action": "append", "help": about}})
        formats = read_formats(args.format)
        with quick_imports():
            from .serving.exported import export  # brings torch, which --help does not wait for

        for name, entry in export(args.run, cfg, formats)["files"].items():
            print(f"{args.run / 'export' / entry['file']}: {name}, exact to {entry['max_abs_error']:.1g}")
        print(f"{args.run / 'export/hub'}: weights and a card; read it, then hf upload NAME {args.run / 'export/hub'}")


if __name__ == "__main__":
    main()
