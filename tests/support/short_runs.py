"""Train several short runs in one process, as importing a framework takes seconds. A script, no test:

    python tests/support/short_runs.py PACKAGE '{"name of a run": ["--epochs", "2"], ...}' FOLDER

Beside the results of each run lie `dtypes.json`, what its convolutions computed in while they trained, and
`samples.txt`, how many samples all processes trained on.
"""

import importlib
import json
import sys
from pathlib import Path

from torch import Tensor, nn


def main() -> None:
    package, runs, folder = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
    config, train = (importlib.import_module(f"{package}.{name}") for name in ("config", "train"))
    processes = importlib.import_module("of_package").processes_of(package)  # beside this script
    dtypes = set()
    samples = []

    def note(module: nn.Module, _inputs: object, output: Tensor) -> None:
        if module.training and isinstance(module, nn.Conv2d):
            dtypes.add(str(output.dtype))
            samples.extend([len(output)] if module.in_channels == 1 else [])

    nn.modules.module.register_module_forward_hook(note)
    with processes.process_group(600):
        for name, arguments in runs.items():
            sys.argv = ["train", *arguments, "--out_dir", str(folder / name)]
            dtypes.clear()
            samples.clear()
            train.run(config.parse("train")[0])
            if processes.rank() == 0:
                (folder / name / "dtypes.json").write_text(json.dumps(sorted(dtypes)))
                (folder / name / "samples.txt").write_text(str(sum(samples) * processes.world_size()))


if __name__ == "__main__":
    main()
