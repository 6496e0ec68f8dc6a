"""The settings of a run: a tree of dataclasses, a YAML file, then arguments. Later sources win.

    python -m <package>.train --config configs/smoke.yaml --optim.lr 0.001

What is not here (framework, strategy, loggers) is code; the README says how to change it.
"""

import argparse
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ContextDecorator, contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from errno import EINVAL, EIO, EPIPE
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, cast

import yaml
from jsonargparse import ArgumentParser, Namespace
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, TypeAdapter

from .model import ModelConfig

LOG = logging.getLogger(__package__)


class UserError(Exception):
    """Something a user can mend; the text says what was given, what is wrong and what to do."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    root: Path | None = None  # a folder with a folder of images per class; without it, handwritten digits
    skip_bad: bool = False  # leave images out that cannot be read, and say which and how many
    batch_size: PositiveInt = 64  # samples per process and step
    num_workers: NonNegativeInt = 0  # loader processes per training process; with 0, images that fit are kept on a GPU


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    lr: NonNegativeFloat = 3e-3  # peak
    weight_decay: NonNegativeFloat = 1e-2  # AdamW's, of matrices and kernels
    schedule: Literal["cosine", "plateau", "onecycle"] = "cosine"
    warmup_steps: NonNegativeInt = 20  # optimizer steps, linear from zero; cosine only
    grad_clip: NonNegativeFloat = 1.0  # largest global L2 norm; 0 leaves gradients alone
    accumulate: PositiveInt = 1  # batches per optimizer step
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the target that is spread over all classes


@dataclass(frozen=True, kw_only=True)
class Config:
    seed: NonNegativeInt = 0  # of the first weights, the order of samples, augmentation and dropout
    epochs: PositiveInt = 20
    max_steps: int = -1  # optimizer steps after which the run ends all the same; -1 sets no bound
    precision: Literal["fp32", "bf16", "fp16"] = "{{ precision }}"  # of a step; weights are float32
    out_dir: Path = Path("runs/default")
    resume: str = "never"  # auto: from the newest checkpoint in out_dir, if any; or a checkpoint's path
    log_every: PositiveInt = 10  # optimizer steps
    num_threads: NonNegativeInt = 0  # CPU threads per process; 0 takes torch's choice, which config.yaml then says
    compile: bool = False  # the network with torch.compile: slower to begin, faster from then on
    channels_last: bool = False  # the memory format that convolutions on GPUs like; above all in bf16 or fp16
    micro_batches: PositiveInt = 1  # parts that a batch is computed in, one by one; doubled if memory runs out
    activation_checkpointing: bool = False  # less memory: compute activations again in the backward pass
    sync_batchnorm: bool = False  # BatchNorm over the batches of all processes; on GPUs
    profile: bool = False  # write what a few steps spend their time on into profile/
    patience: NonNegativeInt = 10  # epochs without a better score before the run stops; 0 never stops
    keep_best: PositiveInt = 1  # how many best weights to keep; with more than one, best/ holds them by their steps
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0  # score and keep averages of about 1 / (1 - ema_decay) steps
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)

    def plain(self) -> dict[str, Any]:
        """The settings as a tree of numbers, strings and None."""
        return cast("dict[str, Any]", json.loads(json.dumps(asdict(self), default=str)))

    def flat(self) -> dict[str, Any]:
        """The same by dotted name, such as `optim.lr`."""
        tree = self.plain()
        groups = {name: tree.pop(name) for name in list(tree) if isinstance(tree[name], dict)}
        return tree | {f"{group}.{key}": value for group in groups for key, value in groups[group].items()}


UNKNOWN = r"arguments: --([^\s=]+)|Group '(\w+)' does not accept option '(\w+)'|Option '(\w+)' is not"


class Parser(ArgumentParser):
    """jsonargparse's parser, with errors of one line that name the nearest setting."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if unknown := re.search(UNKNOWN, message):
            name = ".".join(filter(None, unknown.groups()))
            message = f"{name} is no setting; the nearest is {get_close_matches(name, Config().flat(), 1, 0)[0]}"
        message = re.sub(r"1 validation error for \S+|\[type=[^]]+\]\s+For further information visit \S+", "", message)
        self.exit(2, f"{self.prog}: {' '.join(message.split())}. --help lists all settings.\n")


def parse(verb: str, *, of_run: bool = False, **own: Mapping[str, Any]) -> tuple[Config, Namespace]:
    """Read a verb's command line: the settings, and the arguments that belong to the verb alone.

    Args:
        of_run: the verb has `--run DIR`, and the settings of that run are the defaults.
        own: arguments of the verb alone, by their names or flags, as `add_argument` takes them.
    """
    parser = Parser(prog=f"python -m {__package__}.{verb}")
    parser.add_argument("--config", action="config", help="a YAML file with settings")
    for name, options in own.items():
        parser.add_argument(name, **options)
    parser.add_class_arguments(Config, as_group=False)
    if of_run:
        parser.add_argument("--run", type=Path, default=Path("runs/default"), help="the folder of a run")
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument("--run", type=Path, default=Path("runs/default"))
        parser.set_defaults(read_settings(first.parse_known_args()[0].run).flat())
    try:
        args = parser.instantiate(parser.parse_args())
    except UnicodeDecodeError as error:
        parser.error(f"{' '.join(sys.argv[1:])}: these settings are not in UTF-8 ({error})")
    return Config(**{f.name: args[f.name] for f in fields(Config)}), args


class PlainLoader(yaml.SafeLoader):
    """Reads YAML in which nothing stands for anything else, as a few such lines can grow beyond all memory."""

    anchors = property(lambda self: {}, lambda self, value: None)


def read_settings(run: Path) -> Config:
    """The settings in a run's folder; any other key of the file is left, as it could name another file."""
    with checked(path := run / "config.yaml"):
        return TypeAdapter(Config).validate_python(yaml.load(path.read_bytes(), PlainLoader) if path.exists() else {})


@contextmanager
def checked(name: object, hint: str = "Give one that is whole.", begun: Callable[[], bool] = bool) -> Iterator[None]:
    """Turn what goes wrong with a file, which may be of others, into a `UserError`, until something has `begun`."""
    try:
        yield
    except Exception as error:  # whatever it is, but a lack of memory; NumPy's own is of a file that claims too much
        if isinstance(error, UserError) or type(error).__qualname__ in ("MemoryError", "OutOfMemoryError") or begun():
            raise
        # What torch goes on with after its first sentence is advice to trust the file.
        reason = getattr(error, "strerror", None) or " ".join(repr(error).split()).partition(". ")[0][:200]
        raise UserError(f"{name}: it cannot be used ({reason}). {hint}") from None


class Forgiving(suppress, ContextDecorator):
    """Makes a function that keeps to itself that nobody is left to read what it writes."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return super().__exit__(kind, error, trace) and error.errno in (EPIPE, EIO, EINVAL)  # the last is Windows's


@contextmanager
def plain_errors() -> Iterator[None]:
    """Show a user's mistake as one line and exit with 1; anything else keeps its traceback.

    A pipe that nobody reads and a terminal that was closed end nothing: what is printed is lost. A full disk does.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        vars(stream).update(write=Forgiving(OSError)(stream.write), flush=Forgiving(OSError)(stream.flush))
    try:
        yield
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
