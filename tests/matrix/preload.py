"""What the server of forks imports once. It computes nothing: a child would wait for threads it has not."""

import gc
import importlib
import io
import os

import torch

MODULES = """
    fastapi httpx ignite.distributed ignite.engine ignite.handlers ignite.metrics jsonargparse litserve
    matplotlib.figure mlflow mlflow.store.tracking.sqlalchemy_store onnx onnxruntime onnxscript optuna
    optuna.visualization.matplotlib prometheus_client pytorch_lightning sklearn.datasets sklearn.metrics
    sklearn.model_selection tests.matrix.check tests.matrix.generate tests.matrix.inside tests.readers
    torch._dynamo torch.distributed.run torchmetrics.classification uvicorn wandb wandb.sdk.launch
"""


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


os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
for name in MODULES.split():
    importlib.import_module(name)
draw()
gc.collect()
gc.freeze()  # what is here is neither looked through nor copied in a child
