"""What loggers kept of a run, each read in its own way: curves, hyperparameters, pictures.

A reader imports its logger when it is used, as that takes seconds.
"""

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Curves = dict[str, list[tuple[int, float]]]  # step and value by name
STEP = "trainer/global_step"  # of wandb's charts
Pictures = dict[str, NDArray[np.uint8]]


class Reader(Protocol):
    def __init__(self, run: Path) -> None: ...

    def curves(self) -> Curves: ...

    def hyperparameters(self) -> dict[str, object]: ...

    def pictures(self) -> Pictures: ...

    def unended(self) -> str:
        """What is open of a run that ended well."""


def pixels(file: Path | io.BytesIO) -> NDArray[np.uint8]:
    with Image.open(file) as image:
        return np.asarray(image)


class TensorBoard:
    """As its web page reads a run."""

    def __init__(self, run: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
            EventAccumulator,
        )

        self.events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
        self.events.Reload()

    def curves(self) -> Curves:
        names = sorted(self.events.Tags()["scalars"])
        return {name: [(event.step, event.value) for event in self.events.Scalars(name)] for name in names}

    def hyperparameters(self) -> dict[str, object]:
        from tensorboard.plugins.hparams.plugin_data_pb2 import (  # type: ignore[import-untyped]
            HParamsPluginData,
        )

        metadata = self.events.summary_metadata
        assert "_hparams_/session_start_info" in metadata, "TensorBoard finds no hyperparameters"
        content = metadata["_hparams_/session_start_info"].plugin_data.content
        values = HParamsPluginData.FromString(content).session_start_info.hparams
        return {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}

    def pictures(self) -> Pictures:
        return {
            name: pixels(io.BytesIO(self.events.Images(name)[-1].encoded_image_string))
            for name in self.events.Tags()["images"]
        }

    def unended(self) -> str:
        return ""  # a file of events has no end


class MLflow:
    """Through its client; its parameters are text."""

    def __init__(self, run: Path) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(f"sqlite:///{run}/mlflow.db")
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        [self.run] = self.client.search_runs(experiments)

    @property
    def status(self) -> str:
        return str(self.run.info.status)

    def curves(self) -> Curves:
        names = sorted(self.run.data.metrics)
        history = {name: self.client.get_metric_history(self.run.info.run_id, name) for name in names}
        return {name: [(metric.step, metric.value) for metric in history[name]] for name in names}

    def hyperparameters(self) -> dict[str, object]:
        return dict(self.run.data.params)

    def pictures(self) -> Pictures:
        run_id = self.run.info.run_id
        names = [file.path for file in self.client.list_artifacts(run_id)]
        return {
            name.removesuffix(".png"): pixels(Path(self.client.download_artifacts(run_id, name)))
            for name in names
        }

    def unended(self) -> str:
        return "" if self.status == "FINISHED" else f"a run that is {self.status}"


class Wandb:
    """From the files that `wandb sync` uploads, one for each start; its own reader is not in Python."""

    def __init__(self, run: Path) -> None:
        self.folders = sorted((run / "wandb").glob("offline-run-*"))
        files = [file for folder in self.folders for file in folder.glob("*.wandb")]
        self.records = [record for file in files for record in wandb_records(file.read_bytes())]
        assert len({record.run.run_id for record in self.records if record.HasField("run")}) == 1

    @property
    def exit_codes(self) -> list[int]:
        """One for each start."""
        return [record.exit.exit_code for record in self.records if record.HasField("exit")]

    def history(self) -> Iterator[dict[str, Any]]:
        for record in self.records:
            if record.HasField("history"):
                items = record.history.item
                yield {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}

    def curves(self) -> Curves:
        found: Curves = {}
        for row in self.history():
            step = row.pop(STEP)
            if not any(name.endswith("/filenames") for name in row):  # those are pictures
                for name in row.keys() - {"_step", "_runtime", "_timestamp"}:
                    found.setdefault(name, []).append((step, row[name]))
        return dict(sorted(found.items()))

    def hyperparameters(self) -> dict[str, object]:
        update = [item for record in self.records for item in record.run.config.update]
        return {item.key: json.loads(item.value_json) for item in update if not item.key.startswith("_")}

    def pictures(self) -> Pictures:
        files = self.folders[-1] / "files"
        ending = "/filenames"
        return {
            name.removesuffix(ending): pixels(files / value[-1])
            for row in self.history()
            for name, value in row.items()
            if name.endswith(ending)
        }

    def unended(self) -> str:
        codes = self.exit_codes
        return "" if codes == [0] * len(self.folders) else f"the exit codes {codes}"


def wandb_records(content: bytes) -> Iterator[Any]:
    """The messages in a log of LevelDB's format, https://github.com/google/leveldb/blob/main/doc/log_format.md."""
    from wandb.proto import wandb_internal_pb2

    position, message = 7, b""  # after a header of wandb's own
    while position + 7 <= len(content):
        left = 32768 - position % 32768  # of this block
        length, kind = struct.unpack_from("<HB", content, position + 4) if left >= 7 else (0, 0)
        if kind == 0:  # filled up with zeros
            position += left
            continue
        message += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(message)  # type: ignore[attr-defined]
            message = b""


READERS: dict[str, type[Reader]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": Wandb}
