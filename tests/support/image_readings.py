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
from typing import Any

from fastapi import HTTPException

PACKAGE, FOLDER = sys.argv[1], Path(sys.argv[2])
config, data, predict, inputs, settings = (
    importlib.import_module(f"{PACKAGE}.{name}")
    for name in ("config", "data", "predict", "serving.inputs", "serving.settings")
)


def in_training(root: Path) -> Any:
    images, labels = data.load_images(config.DataConfig(root=root)).train.tensors
    return images[labels == 1][0].numpy()


def in_predict(root: Path) -> Any:
    ((_, image),) = predict.read_inputs([str(file_of(root))], data.FOLDER_SHAPE, skip_bad=False)
    return image.numpy()


def in_service(root: Path) -> Any:
    reader = inputs.Reader(data.FOLDER_SHAPE, settings.Settings())
    return reader.decode([file_of(root).read_bytes()])[0]


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
            except config.UserError as error:
                told[reader.__name__] = str(error)
            except HTTPException as error:
                told[reader.__name__] = error.detail
        readings[root.name] = told | {"alike": all((one == read[0]).all() for one in read)}
    print(json.dumps(readings))


if __name__ == "__main__":
    main()
