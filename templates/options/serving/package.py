"""The model in files, and as a service."""

FILES = {"torch-export": "model.pt2", "onnx": "model.onnx", "torchscript": "model.ts"}  # in `export/`, by format
