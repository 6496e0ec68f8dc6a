"""What the server of forks imports once. It computes nothing: a child would wait for threads it has not."""

import importlib
import importlib.metadata
import io
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch

MODULES = """
    fastapi httpx ignite.distributed ignite.engine ignite.handlers ignite.metrics jsonargparse litserve
    matplotlib.figure mlflow mlflow.store.tracking.sqlalchemy_store onnx onnxruntime onnxscript optuna
    optuna.visualization.matplotlib prometheus_client pytorch_lightning sklearn.datasets sklearn.metrics
    tensorboard.backend.event_processing.event_accumulator tensorboard.plugins.hparams.plugin_data_pb2
    sklearn.model_selection tests.matrix.check tests.matrix.generate tests.matrix.inside tests.support.readers
    filelock torch._dynamo torch.distributed.run torch.distributed.tensor torchmetrics tqdm uvicorn wandb
    transformers wandb.proto.wandb_internal_pb2 wandb.sdk.launch
"""

LATE = """
    alembic.command alembic.config attrs docstring_parser.attrdoc fsspec.implementations.chained h11 httpcore
    jinja2_ansible_filters mlflow.store.tracking.sqlalchemy_workspace_store mlflow.tracing.processor.otel
    mlflow.store.workspace.utils mlscaffold.catalogue.compiled mlscaffold.catalogue.jinja networkx
    onnxscript._framework_apis.torch_2_11 onnxscript.function_libs.torch_lib.ops
    onnxscript.rewriter.onnx_fusions PIL.ImageOps opentelemetry.exporter.otlp.proto.http._log_exporter
    opentelemetry.exporter.otlp.proto.http.metric_exporter optuna.importance pydantic.v1
    sklearn.datasets.data sklearn.datasets.descr sklearn.ensemble sqlalchemy.dialects.sqlite
    peft.tuners.lora sympy.tensor.tensor transformers.models.auto.modeling_auto
    transformers.models.bert.modeling_bert transformers.models.llama.modeling_llama
    transformers.models.vit.modeling_vit
    torch._functorch.aot_autograd torch._inductor.ir torch._inductor.sizevars
    torch.distributed.algorithms.ddp_comm_hooks.default_hooks torch.export._trace torch.export.pt2_archive
    torch.fx.experimental.validator torch.onnx._internal.exporter._compat
    torch.onnx._internal.exporter._torchlib.ops torch.profiler._cupti_monitor
    torch.utils.serialization.config torch.utils.tensorboard wandb.sdk.launch.inputs.internal
"""  # which a run would import in its midst; that saves time alone, so what another version lacks is left out


def draw() -> None:
    """Draw what every run draws at its end: the size of a text is measured once and remembered."""
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay  # type: ignore[import-untyped]

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes in figure.subplots(1, 2):
        axes.plot([2, 4, 6], [0.01, 0.1, 1.0], label="train/loss")
        axes.set(title="Loss", xlabel="optimizer step", yscale="log")
        axes.legend()
    figure.savefig(io.BytesIO(), dpi=120)
    figure = Figure(figsize=(7, 7), layout="constrained")
    labels = [str(label) for label in range(10)]
    display = ConfusionMatrixDisplay(torch.eye(10).numpy(), display_labels=labels)
    display.plot(ax=figure.subplots(), cmap="Blues", colorbar=False, xticks_rotation="vertical")
    figure.savefig(io.BytesIO(), dpi=120)


def parse() -> None:
    """Read settings of the types that projects have: what a type is, Python remembers once it has looked."""
    from jsonargparse import ArgumentParser
    from pydantic import Field, NonNegativeFloat, PositiveInt

    @dataclass(frozen=True)
    class Group:
        number: PositiveInt = 1
        rate: NonNegativeFloat = 0.1
        share: Annotated[float, Field(ge=0, lt=1)] = 0.1
        choice: Literal["one", "two"] = "one"

    @dataclass(frozen=True)
    class Settings:
        folder: Path | None = None
        yes: bool = False
        group: Group = field(default_factory=Group)

    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--count", type=int, default=1)
    parser.add_class_arguments(Settings, as_group=False)
    parser.instantiate(parser.parse_args(["--folder", "/", "--group.rate", "1", "--group.choice", "two"]))


os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
importlib.metadata.entry_points = importlib.metadata.entry_points().select  # in one scan of all packages
for name in MODULES.split():
    importlib.import_module(name)
for name in LATE.split():
    with suppress(ImportError):
        importlib.import_module(name)
draw()
parse()
