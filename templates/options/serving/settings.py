"""The settings of a service. Nothing here imports torch, so that `--help` answers at once."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from ..config import build_parser
from ..errors import LOG, UserError
from ..paths import File, newest_run


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Service."""

    host: str = "127.0.0.1"
    """address to listen on; 0.0.0.0 takes requests from other machines"""
    port: PositiveInt = 8000
    """port to listen on"""
    backend: Literal["onnx", "torch-export", "plain"] = "onnx"
    """model to load: an exported file, or best.pt (plain); torch-export is a program, the others are data"""
    num_threads: PositiveInt = 1
    """CPU threads of the model; small models are fastest with one"""
    max_batch: PositiveInt = 64
    """largest number of inputs in a request, and in a call of the model"""
    max_body_mb: PositiveFloat = 8
    """largest body of a request"""
    max_decoded_mb: PositiveFloat = 48
    """most memory that decoding all inputs of a request may take"""
    max_connections: PositiveInt = 256
    """open connections; beyond that, the one that has been idle the longest is closed"""
    keep_alive_s: PositiveInt = 75
    """seconds until an idle connection is closed; should exceed the idle timeout of a proxy in front"""
    max_queue: PositiveInt = 256
    """requests that may wait for the model; further ones get 429"""
    deadline_s: PositiveFloat = 10
    """seconds for a body to arrive, and again for its answer; then 504"""
    drain_s: NonNegativeFloat = 1
    """seconds between SIGTERM, when /readyz turns to 503, and the end of listening"""
    api_key_file: File | None = None
    """file with the key that requests need; without it, the variable SERVING_API_KEY"""
    key_for: Literal["predictions", "all"] = "predictions"
    """what needs the key, if there is one: /predict and /model, or all but the health checks"""
    root_path: str = ""
    """prefix of addresses that a proxy strips, such as /digits"""

    def api_key(self) -> bytes:
        """The key that requests need in X-API-Key; empty if they need none. Raises `UserError` for an empty key."""
        path, key = self.api_key_file, os.environ.get("SERVING_API_KEY")
        key = key if path is None else os.fsdecode(path.read_bytes()) if path.is_file() else ""
        if key is None and self.host not in ("127.0.0.1", "::1", "localhost"):
            LOG.warning("WARNING: all who can reach %s can use this: set SERVING_API_KEY or --api_key_file", self.host)
        if key is not None and not key.strip():
            raise UserError(f"{path or 'SERVING_API_KEY'}: there is no key in it. Put one there, or do not set it.")
        return os.fsencode((key or "").strip())


def parse_settings() -> tuple[Path, Settings]:
    """Read the command line: the folder of the run, and the settings."""
    parser = build_parser("serve")
    parser.add_argument("--run", type=File, default=newest_run(), help="folder of a run; without it, the newest")
    parser.add_class_arguments(Settings, as_group=False)
    args = parser.parse_args()
    return args.run, Settings(**{field.name: args[field.name] for field in fields(Settings)})
