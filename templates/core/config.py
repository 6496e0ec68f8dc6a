"""The settings of a run: a tree of dataclasses, a YAML file, then arguments. Later sources win.

    python -m <package>.train --config configs/smoke.yaml --optim.lr 0.001

The groups `data`, `model` and `objective` belong to the task: see `task/settings.py`. Nothing here imports torch.
"""

import argparse
import gc
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
#: if pretrained == "none"
from dataclasses import asdict, dataclass, field, fields
#: endif
#: if pretrained == "transformers"
from dataclasses import asdict, dataclass, field, fields, replace
#: endif
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, cast

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, set_parsing_settings
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, TypeAdapter

from .errors import LOG, checked
from .paths import File, newest_run
from .task.settings import DataConfig, ModelConfig, ObjectiveConfig


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimizer."""

    lr: NonNegativeFloat = 3e-3
    """peak learning rate"""
    weight_decay: NonNegativeFloat = 1e-2
    """AdamW's weight decay; biases and norms have none"""
    schedule: Literal["cosine", "plateau", "onecycle"] = "cosine"
    """how the learning rate moves"""
    #: if generator == "gan"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """how much of earlier gradients a step keeps, AdamW's first beta; onecycle has its own"""
    #: endif
    warmup_steps: NonNegativeInt = 20
    """optimizer steps in which the rate rises from zero; cosine only"""
    grad_clip: NonNegativeFloat = 1.0
    """largest global L2 norm of the gradients; 0 does not clip"""
    accumulate: PositiveInt = 1
    """batches per optimizer step"""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Training."""

    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    """seed for weights, data order, augmentation and dropout"""
    epochs: PositiveInt = 20
    """passes over the training data"""
    max_steps: Annotated[int, Field(ge=-1)] = -1
    """end after this many optimizer steps; -1 sets no limit"""
    precision: Literal["fp32", "bf16", "fp16"] = "{{ precision }}"
    """what a step computes in; weights are float32"""
    out_dir: File | None = None
    """folder of the run; without it the next number, such as runs/0001"""
    resume: Literal["never", "auto"] | File = "never"
    """never, auto (the run in out_dir, or the newest in runs/ that has not ended with these epochs and max_steps), or a
    checkpoint to continue from"""
    init_from: File | None = None
    """start a new run from the weights of this run, best.pt or checkpoint, with what its objective has learned"""
    log_every: PositiveInt = 10
    """optimizer steps between logged losses"""
    validate_every: NonNegativeInt = 0
    """optimizer steps between validations; 0 validates after each epoch"""
    save_every: NonNegativeInt = 0
    """optimizer steps between checkpoints, besides the one after each validation; 0 saves no others"""
    num_threads: NonNegativeInt = 0
    """CPU threads per process; 0 takes torch's choice, which is written to config.yaml"""
    compile: bool = False
    """compile the network: slower to start, faster from then on"""
    channels_last: bool = False
    """memory format that convolutions on GPUs prefer, above all in bf16 or fp16"""
    activation_checkpointing: bool = False
    """save memory by computing activations again in the backward pass"""
    #: if strategy != "single"
    sync_batchnorm: bool = False
    """BatchNorm over the batches of all processes; GPUs only"""
    timeout: PositiveInt = 1800
    """seconds that processes wait for one that has stopped answering, before it is named and all of them end"""
    #: endif
    profile: bool = False
    """write a trace of a few steps to profile/"""
    patience: NonNegativeInt = 10
    """validations without a better score after which the run stops; 0 never stops"""
    keep_best: PositiveInt = 1
    """how many best weights to keep; with more than one, best/ holds them"""
    #: if generator == "flow"
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    #: endif
    #: if generator == "gan"
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.98
    #: endif
    """score and keep moving averages of the weights, over about 1 / (1 - ema_decay) steps"""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)

    #: if pretrained == "transformers"
    def __post_init__(self) -> None:
        """Read data as the model does that is given."""
        object.__setattr__(self, "data", replace(self.data, pretrained=self.model.pretrained))

    #: endif
    @property
    def folder(self) -> Path:
        """The folder of a run that has begun."""
        assert self.out_dir, "the run has not begun"
        return self.out_dir

    def plain(self) -> dict[str, Any]:
        """The settings as a tree of numbers, strings and None."""
        return cast("dict[str, Any]", json.loads(json.dumps(asdict(self), default=str)))

    def flat(self) -> dict[str, Any]:
        """The same by dotted name, such as `optim.lr`."""
        tree = self.plain()
        groups = {name: tree.pop(name) for name in list(tree) if isinstance(tree[name], dict)}
        return tree | {f"{group}.{key}": value for group in groups for key, value in groups[group].items()}


UNKNOWN = r"arguments: --([^\s=]+)|Group '(\w+)' does not accept option '(\w+)'|Option '(\w+)' is not"


class Help(DefaultHelpFormatter):
    """Shows plain types: without the bounds that pydantic checks, and without what choices say already."""

    def _get_type_str(self, action: argparse.Action) -> str | None:
        named = re.search(r"\b(int|float|str|Path)\b", super()._get_type_str(action) or "")
        return named[0] if named else None


class Parser(ArgumentParser):
    """jsonargparse's parser, with one-line errors that name the nearest setting."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if unknown := re.search(UNKNOWN, message):
            name = ".".join(filter(None, unknown.groups()))
            known = [action.dest for action in self._actions]
            message = f"--{name} is not a setting. Did you mean --{get_close_matches(name, known, 1, 0)[0]}?"
        message = re.sub(r"1 validation error for \S+|\[type=[^]]+\]\s+For further information visit \S+", "", message)
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (--help lists all settings)\n")


def build_parser(command: str) -> Parser:
    """A parser of the command's arguments, of which there is only `--config` so far."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = Parser(prog=f"python -m {__package__}.{command}", formatter_class=Help)
    parser.add_argument("--config", action="config", help="a YAML file with settings")
    return parser


#: if hpo == "none"
def parse(command: str, *, of_run: bool = False, **own: Mapping[str, Any]) -> tuple[Config, Namespace]:
    """Read a command line: the settings, and the arguments that belong to this command alone.

    Args:
        of_run: the command has `--run DIR`, and the settings of that run are the defaults.
        own: arguments of this command alone, by their names or flags, as `add_argument` takes them.
    """
    parser = build_parser(command)
    for name, options in own.items():
        parser.add_argument(name, **options)
    #: endif
    #: if hpo == "optuna"
def parse(command: str, *, of_run: bool = False, **own: Mapping[str, Any] | type) -> tuple[Config, Namespace]:
    """Read a command line: the settings, and the arguments that belong to this command alone.

    Args:
        of_run: the command has `--run DIR`, and the settings of that run are the defaults.
        own: arguments of this command alone, by their names or flags, as `add_argument` takes them, or a dataclass
            whose fields are settings like those of `Config`, but for those that are given beside it.
    """
    parser = build_parser(command)
    for name, options in own.items():
        if isinstance(options, type):
            parser.add_class_arguments(options, as_group=False, skip={other.lstrip("-") for other in own})
        else:
            parser.add_argument(name, **options)
    #: endif
    parser.add_class_arguments(Config, as_group=False)
    if of_run:
        parser.add_argument("--run", type=File, help="folder of a run; without it, the newest with weights")
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument("--run", type=os.path.expanduser)
        given = first.parse_known_args()[0].run
        run = Path(given) if given else newest_run()
        parser.set_defaults(read_settings(run).flat() | {"run": run})
    try:
        args = parser.instantiate(parser.parse_args())
    except UnicodeDecodeError as error:
        parser.error(f"{' '.join(sys.argv[1:])}: these settings are not in UTF-8 ({error})")
    if of_run and not given and args.run.is_dir():
        LOG.warning("run=%s, the newest with weights", args.run)
    return Config(**{f.name: args[f.name] for f in fields(Config)}), args


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import without a search for garbage, which finds none there and takes a sixth of the time to the first step.

    What exists by then, such as modules, stays and is not looked at again.
    """
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


class PlainLoader(yaml.SafeLoader):
    """Reads YAML in which nothing stands for anything else, as a few such lines can grow beyond all memory."""

    anchors = property(lambda self: {}, lambda self, value: None)


def read_settings(run: Path) -> Config:
    """The settings of a run. Raises `UserError` if they are not of this version of the project."""
    path = run / "config.yaml"
    anew = f"python -m {__package__}.train --init_from {run}"
    with checked(path, f"If a release before 0.8 of the template wrote it, start a new run from its weights: {anew}"):
        return TypeAdapter(Config).validate_python(yaml.load(path.read_bytes(), PlainLoader) if path.exists() else {})
