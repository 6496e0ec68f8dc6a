"""Print the logits of a run's best weights, as JSON: `python tuned_logits.py PACKAGE RUN TOKENS`.

TOKENS is JSON, a list of rows. Both the network with its adapters and the exported ONNX file are asked.
"""

import importlib
import json
import sys
from pathlib import Path

import torch

PACKAGE, RUN, TOKENS = sys.argv[1:]
config, trained, exported, inputs = (
    importlib.import_module(f"{PACKAGE}.{name}")
    for name in ("config", "trained", "serving.exported", "task.inputs")
)
run, rows = Path(RUN), [torch.tensor([row]) for row in json.loads(TOKENS)]
best = trained.Trained(run, config.read_settings(run))
with torch.inference_mode():
    plain = [best.net(row)[0].tolist() for row in rows]
onnx = exported.load_exported(run, "onnx").run
answers = [onnx({"tokens": row.numpy()})[inputs.OUTPUTS[0]][0].tolist() for row in rows]
print(json.dumps({"network": plain, "onnx": answers}))
