"""The settings of a service, and what follows from them."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch

from ..config import Parser, UserError
from ..export import Model, load_exported, load_plain


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Service."""

    host: str = "127.0.0.1"
    """address to listen at; 0.0.0.0 takes requests from other machines"""
    port: int = 8000
    """port to listen at"""
    backend: Literal["onnx", "torch-export", "plain"] = "onnx"
    """what answers: a file that was exported, or best.pt; torch-export loads a program, onnx and plain load data"""
    num_threads: int = 1
    """CPU threads of the model; small models are fastest with one"""
    max_batch: int = 64
    """inputs of one request, and of one call of the model"""
    max_body_mb: float = 8
    """largest body of a request"""
    max_queue: int = 256
    """requests that wait for the model; more are turned away"""
    deadline_s: float = 10
    """seconds for a body to arrive, and again for its answer"""
    drain_s: float = 1
    """seconds in which the service says that it is not ready, before it stops to listen"""
    api_key_file: Path | None = None
    """holds the key that requests need; without it, the variable SERVING_API_KEY does"""

    def __post_init__(self) -> None:
        for name in ("port", "num_threads", "max_batch", "max_queue"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: give 1 or more.")

    def api_key(self) -> bytes:
        """What requests need in X-API-Key; empty where anyone may ask."""
        if self.api_key_file is None:
            return os.environ.get("SERVING_API_KEY", "").encode()
        if self.api_key_file.is_file() and (key := self.api_key_file.read_bytes().strip()):
            return key
        raise UserError(f"api_key_file={self.api_key_file}: there is no key in it.")

    def load_model(self, run: Path) -> Model:
        """What answers; raises `UserError` when it is missing or not what it should be."""
        # ONNX Runtime has threads of its own, which torch's would get in the way of.
        name, threads = self.backend, self.num_threads
        torch.set_num_threads(1 if name == "onnx" else threads)
        return load_plain(run) if name == "plain" else load_exported(run, name, threads)

    def describe(self, model: Model) -> dict[str, Any]:
        """What /model tells."""
        about = {"version": model.version, "backend": self.backend, "max_batch": self.max_batch}
        return about | {"shape": model.shape, "classes": model.classes}


def parse_settings() -> tuple[Path, Settings]:
    """Read the command line: the folder of the run, and the settings."""
    parser = Parser(prog=f"python -m {(__package__ or '').partition('.')[0]}.serve")
    parser.add_argument("--config", action="config", help="a YAML file with settings")
    parser.add_argument("--run", type=Path, default=Path("runs/default"), help="the folder of a run")
    parser.add_class_arguments(Settings, as_group=False)
    args = parser.parse_args()
    return args.run, Settings(**{field.name: args[field.name] for field in fields(Settings)})
