"""What a project reads of image files, in training, in predict and in its service. A script, no test:

python tests/support/image_readings.py PACKAGE FOLDER

FOLDER holds a folder for each file, with two classes: `seen` are copies of the file. Prints, for each, the
mean, the least and the largest of its bytes, or why there are none; and whether all three read the same.
"""

import importlib
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi import HTTPException

PACKAGE, FOLDER = sys.argv[1], Path(sys.argv[2])
config, data, errors, task_inputs, inputs, settings = (
    importlib.import_module(f"{PACKAGE}.{name}")
    for name in ("config", "task.data", "errors", "task.inputs", "serving.inputs", "serving.settings")
)


def in_training(root: Path) -> Any:
    source = data.open_data(config.DataConfig(root=root)).train
    batch = source.batch([source.labels.tolist().index(1)], None)
    return task_inputs.from_batch(batch)["images"][0]


def in_predict(root: Path) -> Any:
    about = {"shape": data.FOLDER_SHAPE}
    ((_, arrays),) = task_inputs.read(str(file_of(root)), about, config.DataConfig())
    return arrays["images"]


def in_service(root: Path) -> Any:
    model = SimpleNamespace(about={"shape": data.FOLDER_SHAPE})
    reader = inputs.Reader(lambda: model, settings.Settings())
    return reader.decode([file_of(root).read_bytes()], model.about)[0]["images"]


def file_of(root: Path) -> Path:
    return min((root / "seen").iterdir())


def main() -> None:
    warnings.simplefilter("ignore")
    readers: tuple[Callable[[Path], Any], ...] = (in_training, in_predict, in_service)
    readings: dict[str, Any] = {}
    for root in FOLDER.iterdir():
        read: list[Any] = []
        told: dict[str, Any] = {}
        for reader in readers:
            try:
                read.append(reader(root))
                told[reader.__name__] = [read[-1].mean().item(), read[-1].min().item(), read[-1].max().item()]
            except errors.UserError as error:
                told[reader.__name__] = str(error)
            except HTTPException as error:
                told[reader.__name__] = error.detail
        readings[root.name] = told | {"alike": all((one == read[0]).all() for one in read)}
    print(json.dumps(readings))


if __name__ == "__main__":
    main()
