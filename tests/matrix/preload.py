"""What the server of forks imports once. It computes nothing: a child would wait for threads it has not."""

import gc
import importlib
import os

import torch

MODULES = """
    fastapi httpx ignite.distributed ignite.engine ignite.handlers ignite.metrics jsonargparse litserve
    matplotlib.figure mlflow mlflow.store.tracking.sqlalchemy_store onnx onnxruntime onnxscript optuna
    optuna.visualization.matplotlib prometheus_client pytorch_lightning sklearn.datasets sklearn.metrics
    sklearn.model_selection tests.matrix.check tests.matrix.generate tests.matrix.inside tests.readers
    torch._dynamo torch.distributed.run torchmetrics.classification uvicorn wandb
"""

os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
for name in MODULES.split():
    importlib.import_module(name)
gc.collect()
gc.freeze()  # what is here is neither looked through nor copied in a child
