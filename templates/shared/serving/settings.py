"""The settings of a service, and what follows from them."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from ..config import LOG, Parser, UserError
from ..export import Model, load_exported, load_plain


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Service."""

    host: str = "127.0.0.1"
    """address to listen at; 0.0.0.0 takes requests from other machines"""
    port: PositiveInt = 8000
    """port to listen at"""
    backend: Literal["onnx", "torch-export", "plain"] = "onnx"
    """what answers: a file that was exported, or best.pt; torch-export loads a program, onnx and plain load data"""
    num_threads: PositiveInt = 1
    """CPU threads of the model; small models are fastest with one"""
    max_batch: PositiveInt = 64
    """inputs of one request, and of one call of the model"""
    max_body_mb: PositiveFloat = 8
    """largest body of a request"""
    max_megapixels: PositiveFloat = 12.5
    """pixels of all image files of a request together"""
    max_connections: PositiveInt = 256
    """connections at a time; the one that has been idle for longest makes room for another"""
    max_queue: PositiveInt = 256
    """requests that wait for the model; more are turned away"""
    deadline_s: PositiveFloat = 10
    """seconds for a body to arrive, and again for its answer"""
    drain_s: NonNegativeFloat = 1
    #: if serving == "fastapi"
    """seconds in which the service says that it is not ready, before it stops listening"""
    #: endif
    #: if serving == "litserve"
    """has no effect: LitServe stops listening at once"""
    #: endif
    api_key_file: Path | None = None
    """holds the key that requests need; without it, the variable SERVING_API_KEY does"""
    key_for: Literal["predictions", "all"] = "predictions"
    """addresses that need the key, where there is one: /predict and /model, or all but those for health checks"""
    root_path: str = ""
    """what a proxy strips from the beginning of addresses, such as /digits"""

    def api_key(self) -> bytes:
        """What requests need in X-API-Key; empty where anyone may ask, which is said. Raises `UserError` for no key."""
        path, key = self.api_key_file, os.environ.get("SERVING_API_KEY")
        key = key if path is None else os.fsdecode(path.read_bytes()) if path.is_file() else ""
        if key is None and self.host not in ("127.0.0.1", "::1", "localhost"):
            LOG.warning("WARNING: anyone who reaches %s may ask: set SERVING_API_KEY or --api_key_file", self.host)
        if key is not None and not key.strip():
            raise UserError(f"{path or 'SERVING_API_KEY'}: there is no key in it. Put one there, or leave that out.")
        return os.fsencode((key or "").strip())

    def load_model(self, run: Path) -> Model:
        """What answers; raises `UserError` when it is missing or not what it should be."""
        # ONNX Runtime has threads of its own, which torch's would get in the way of.
        torch.set_num_threads(1 if self.backend == "onnx" else self.num_threads)
        return load_plain(run) if self.backend == "plain" else load_exported(run, self.backend, self.num_threads)


def parse_settings() -> tuple[Path, Settings]:
    """Read the command line: the folder of the run, and the settings."""
    parser = Parser(prog=f"python -m {(__package__ or '').partition('.')[0]}.serve")
    parser.add_argument("--config", action="config", help="a YAML file with settings")
    parser.add_argument("--run", type=Path, default=Path("runs/default"), help="the folder of a run")
    parser.add_class_arguments(Settings, as_group=False)
    args = parser.parse_args()
    return args.run, Settings(**{field.name: args[field.name] for field in fields(Settings)})
