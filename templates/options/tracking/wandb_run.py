"""The run in Weights & Biases: its name and id, and whether it is uploaded."""

import netrc
import os

import numpy as np
import wandb
from numpy.typing import NDArray

from ..config import Config

STEP = "trainer/global_step"  # the x-axis of every chart


def open_run(cfg: Config) -> wandb.Run:
    """The run, with the hyperparameters; a resumed run keeps its id.

    Without an account it stays in the run's folder, for `wandb sync` to upload. WANDB_MODE overrides this.
    """
    offline = not os.environ.get("WANDB_MODE") and not _has_account()
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT") or (__package__ or "").partition(".")[0],
        name=cfg.folder.name,
        id=_earlier_id(cfg),
        resume=None if offline else "allow",
        dir=cfg.folder,
        mode="offline" if offline else None,
        config=cfg.flat(),
        allow_val_change=True,
        settings=wandb.Settings(silent=offline),
    )
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP)
    return run


def image(pixels: NDArray[np.uint8]) -> wandb.Image:
    """A picture [H, W, C] as W&B takes it."""
    return wandb.Image(pixels)


def _earlier_id(cfg: Config) -> str | None:
    """The id of the newest run in the folder, from a name such as `offline-run-20261124_202011-f7oax0y2`."""
    folders = (cfg.folder / "wandb").glob("*run-*-*")
    return max((folder.name.split("-")[-2:] for folder in folders), default=[None])[-1]


def _has_account() -> bool:
    """Whether there is an API key, in the environment or from `wandb login`."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
