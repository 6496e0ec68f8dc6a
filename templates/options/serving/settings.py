"""The settings of a service. Nothing here imports torch, so that `--help` answers at once."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from ..config import build_parser, newest_run
from ..errors import LOG, UserError
from ..paths import File


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
    max_decoded_mb: PositiveFloat = 48
    """most memory that decoding all inputs of a request may take"""
    max_connections: PositiveInt = 256
    """connections at a time; the one that has been idle for longest makes room for another"""
    keep_alive_s: PositiveInt = 75
    """seconds until a connection without a request is closed; more than those of the proxy before it"""
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
    api_key_file: File | None = None
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


def parse_settings() -> tuple[Path, Settings]:
    """Read the command line: the folder of the run, and the settings."""
    parser = build_parser("serve")
    parser.add_argument("--run", type=File, default=newest_run(), help="folder of a run; without it, the newest")
    parser.add_class_arguments(Settings, as_group=False)
    args = parser.parse_args()
    return args.run, Settings(**{field.name: args[field.name] for field in fields(Settings)})
