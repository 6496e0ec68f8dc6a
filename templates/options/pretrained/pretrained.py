"""Models of transformers: how they are loaded, frozen, given adapters, and saved for other programs."""

import hashlib
import json
from collections.abc import Callable
from copy import deepcopy
from itertools import chain
from logging import getLogger
from pathlib import Path
#: if task != "image-classification"
from tempfile import TemporaryDirectory
#: endif
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
#: if task == "image-classification"
from transformers import CONFIG_MAPPING, AutoConfig, ImageProcessingMixin, PreTrainedModel
#: endif
#: if task != "image-classification"
from transformers import CONFIG_MAPPING, AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
#: endif
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from .errors import UserError
from .tuning import Tuning

CONFIG = "config.json"  # its name among the assets of a run
#: if task == "image-classification"
PROCESSOR = "preprocessor_config.json"
SIDES = ("height", "width")
#: endif
BASE = "base"  # in a state_dict with adapters: which weights they belong to

getLogger("huggingface_hub").setLevel("ERROR")  # what matters is said here, in a line
logging.set_verbosity_error()
logging.disable_progress_bar()


def load(call: Callable[..., Any], name: str, hint: str, **options: Any) -> Any:
    """What a `from_pretrained` gives for a folder or a hub id; raises `UserError` if it gives nothing."""
    folder = Path(name).expanduser()
    if not folder.is_dir() and (folder.is_absolute() or name.startswith((".", "~"))):
        raise UserError(f"model.pretrained={name}: there is no such folder. {hint}")
    try:
        return call(str(folder) if folder.is_dir() else name, **options)
    except Exception as error:  # whatever is wrong with files that others made, or with the network
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")[:200]
        raise UserError(f"model.pretrained={name}: {reason}. {hint}") from None


def read_config(name: str | None, small: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a model, or of a small one that has none yet."""
    hint = "Give a folder that save_pretrained has written, or a hub id; without internet, one that was downloaded."
    found = load(AutoConfig.from_pretrained, name, hint) if name else AutoConfig.for_model(**small)
    return {key: value for key, value in found.to_dict().items() if key != "_name_or_path"}  # it may be moved


#: if task == "image-classification"
def read(name: str | None, small: dict[str, Any], inputs: dict[str, Any]) -> dict[str, bytes]:
    """The configuration of a model, or of a small one, and what is said of its inputs; raises `UserError`."""
    found = {CONFIG: read_config(name, small)}
    if name:
        hint = "Put the preprocessor_config.json of these weights beside them: it says how inputs are scaled."
        inputs, _ = load(ImageProcessingMixin.get_image_processor_dict, name, hint)
    found[PROCESSOR] = inputs
    Inputs(inputs)
    return {file: json.dumps(content).encode() for file, content in found.items()}


class Inputs:
    """What a model's preprocessor_config.json says of its inputs: a shape, and mean and deviation of each channel."""

    def __init__(self, said: dict[str, Any]) -> None:
        """Raises `UserError` if it says no size."""
        size = said.get("crop_size") if said.get("do_center_crop") else None
        size = size or said.get("size") or {}
        both = dict.fromkeys(SIDES, size) if isinstance(size, int) else size
        sides: list[Any] = [both.get(side, both.get("shortest_edge")) for side in SIDES]
        if None in sides:
            raise UserError(f"model.pretrained: its {PROCESSOR} says no size. Add one, such as 224.")
        normal = said.get("do_normalize", True)
        self.mean: list[float] = said["image_mean"] if normal and "image_mean" in said else [0.0] * 3
        self.deviation: list[float] = said["image_std"] if normal and "image_std" in said else [1.0] * 3
        self.shape: tuple[int, int, int] = (len(self.mean), int(sides[0]), int(sides[1]))


#: endif
#: if task != "image-classification"
def read_tokenizer(name: str, config: dict[str, Any]) -> dict[str, bytes]:
    """The files of a model's tokenizer; raises `UserError` if there is none, or one of another model."""
    tokenizer = load(AutoTokenizer.from_pretrained, name, "Give a model with the tokenizer that it was trained with.")
    size, rows = 1 + max(tokenizer.get_vocab().values(), default=-1), config["vocab_size"]
    if not tokenizer.is_fast:
        raise UserError(f"model.pretrained={name}: its tokenizer has no tokenizer.json. Give a model that has one.")
    if not rows / 2 < size <= rows:
        unlike = f"its tokenizer has {size} tokens, and its weights know {rows}: they are of different models"
        raise UserError(f"model.pretrained={name}: {unlike}. Put the tokenizer beside the weights that belong to them.")
    return tokenizer_files(tokenizer)


def tokenizer_files(tokenizer: PreTrainedTokenizerBase) -> dict[str, bytes]:
    """What `save_pretrained` writes, by name."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def longest(config: dict[str, Any], assets: dict[str, bytes]) -> int:
    """Tokens that a model reads at most, as far as it says so."""
    said = json.loads(assets["tokenizer_config.json"]).get("model_max_length"), config.get("max_position_embeddings")
    return min([10**6, *(int(most) for most in said if most)])


#: endif
def build(cfg: Tuning, auto: Any, assets: dict[str, bytes], init: bool, **changes: Any) -> PreTrainedModel:
    """The model for a task, which `auto` loads, in float32, with some values of its configuration changed.

    Raises `UserError` if it is not for this task, or has no weights.
    """
    saved = {**json.loads(assets[CONFIG]), **changes}
    config = CONFIG_MAPPING[saved["model_type"]].from_dict(saved)
    options: dict[str, Any] = {"config": config, "dtype": torch.float32}
    if type(config) not in auto._model_mapping:
        other = f"no {config.model_type} is a model for {auto.__name__.removeprefix('AutoModelFor')}"
        raise UserError(f"model.pretrained={cfg.pretrained}: {other}. Give another.")
    if not cfg.pretrained and cfg.lora_rank:
        raise UserError(f"model.lora_rank={cfg.lora_rank}: adapters need weights to adapt. Set model.pretrained, too.")
    if not cfg.pretrained or not (init or cfg.lora_rank):
        model: PreTrainedModel = auto.from_config(config, dtype=torch.float32)
        return model
    hint = "Give a folder with model.safetensors and config.json, as save_pretrained writes them, or a hub id."
    options |= {"ignore_mismatched_sizes": True, "output_loading_info": True}
    model, facts = load(auto.from_pretrained, cfg.pretrained, hint, **options)
    own = {name for name, _ in model.base_model.named_parameters(model.base_model_prefix)}
    if own and own <= {*facts["missing_keys"], *(name for name, *_ in facts["mismatched_keys"])}:
        raise UserError(f"model.pretrained={cfg.pretrained}: its weights are of another architecture. {hint}")
    return model


class Tuned(nn.Module):
    """A model of transformers of which some weights are trained, each at its own rate.

    With adapters, the weights that they adapt are left out of the `state_dict`, which says instead which these are.
    """

    def __init__(self, cfg: Tuning, model: PreTrainedModel, *, new_head: bool) -> None:
        """Of a `new_head` the weights are random at first, so it is trained beside adapters."""
        super().__init__()
        self.model: nn.Module = model
        self.name, self.adapted, self.layers = cfg.pretrained, cfg.lora_rank > 0, find_layers(model)
        depth = len(self.layers)
        if cfg.frozen_layers > depth:
            raise UserError(f"model.frozen_layers={cfg.frozen_layers}: this model has {depth} layers. Give fewer.")
        frozen = {0: 0, -1: depth + 2}.get(cfg.frozen_layers, cfg.frozen_layers + 1)  # of all ranks
        for weight in chain(*rank(model)[:frozen]):
            weight.requires_grad_(False)
        if self.adapted:
            self.model = adapt(model, cfg)
            for weight in rank(model)[-1] if new_head else []:
                weight.requires_grad_(True)
            self.base = digest(self)
            module: Any = self  # torch gives its hooks no types
            module.register_state_dict_post_hook(leave_base)
            module.register_load_state_dict_pre_hook(take_base)
        if not any(weight.requires_grad for weight in self.parameters()):
            raise UserError(f"model.frozen_layers={cfg.frozen_layers}: nothing is left to train. Freeze fewer layers.")
        factors = [*(cfg.layer_decay ** (depth + 1 - place) for place in range(depth + 2)), cfg.head_rate]
        of_weight = {id(weight): factors[place] for place, weights in enumerate(rank(model)) for weight in weights}
        self.rates = {name: of_weight[id(weight)] for name, weight in self.named_parameters()}

    def train(self, mode: bool = True) -> Self:
        """As any module; but BatchNorm whose weights are frozen keeps its statistics, too."""
        super().train(mode)
        for part in self.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.train(mode and any(weight.requires_grad for weight in part.parameters()))
        return self

    def merged(self) -> Self:
        """This module, or a copy in which adapters are part of the weights."""
        if not self.adapted:
            return self
        other: Any = deepcopy(self)
        other.model, other.adapted = other.model.merge_and_unload(safe_merge=True), False
        return cast("Self", other)


def find_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The layers of a model, first to last: of all lists of modules in it, the one with most weights."""
    lists = [part for part in model.base_model.modules() if isinstance(part, nn.ModuleList)]
    return [*max(lists, key=lambda part: sum(w.numel() for w in part.parameters()), default=())]


def rank(model: PreTrainedModel) -> list[list[nn.Parameter]]:
    """The weights before the layers, those of each layer, those after them, and the head's."""
    layers = [[*layer.parameters()] for layer in find_layers(model)]
    inner, base = {id(weight) for weight in chain(*layers)}, [*model.base_model.parameters()]
    first = next((place for place, weight in enumerate(base) if id(weight) in inner), len(base))
    before, after = base[:first], [weight for weight in base[first:] if id(weight) not in inner]
    known = {id(weight) for weight in base}
    return [before, *layers, after, [weight for weight in model.parameters() if id(weight) not in known]]


def adapt(model: PreTrainedModel, cfg: Tuning) -> nn.Module:
    """Give a model LoRA adapters (Hu et al. 2021, arXiv:2106.09685), which alone are trained from then on.

    Raises `UserError` if the settings name no module that can have one. Frozen layers get none.
    """
    from peft import LoraConfig  # which cannot be imported beside a torchvision that does not fit torch
    from peft.tuners.lora import LoraModel

    wanted, inner = [*filter(None, cfg.lora_targets.replace(" ", "").split(","))], {*model.base_model.modules()}
    kinds = (nn.Linear, Conv1D, nn.Conv2d) if wanted else (nn.Linear, Conv1D)
    found = {name: part for name, part in model.named_modules() if isinstance(part, kinds) and part in inner}
    able = [name for name, part in found.items() if part.weight.requires_grad]
    names = [name for name in able if not wanted or any(f".{name}".endswith(f".{end}") for end in wanted)]
    if not names:
        known = ", ".join(sorted({name.rpartition(".")[2] for name in able})) or "none"
        raise UserError(f"model.lora_targets={cfg.lora_targets}: no module can be adapted. Such can: {known}.")
    transposed = any(isinstance(found[name], Conv1D) for name in names)
    scales = {"r": cfg.lora_rank, "lora_alpha": cfg.lora_alpha, "lora_dropout": cfg.lora_dropout}
    settings = LoraConfig(**scales, target_modules=names, fan_in_fan_out=transposed)
    adapted: nn.Module = LoraModel(model, settings, "default")
    return adapted


def frozen_weights(net: nn.Module) -> dict[str, Tensor]:
    """Those that are not trained, by each of their names."""
    weights = net.named_parameters(remove_duplicate=False)
    return {name: weight for name, weight in weights if not weight.requires_grad}


def digest(net: nn.Module) -> str:
    """A hash of the weights that are not trained."""
    found = hashlib.sha256()
    for weight in {id(weight): weight for weight in frozen_weights(net).values()}.values():
        found.update(weight.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def leave_base(net: Tuned, state: dict[str, Any], prefix: str, *args: Any) -> None:
    """Let a `state_dict` hold adapters and head, and say which weights they belong to: a hash, and a name."""
    if not net.adapted:  # a copy whose weights are merged
        return
    for name in frozen_weights(net):
        del state[prefix + name]
    state[prefix + BASE] = torch.frombuffer(bytearray(f"{net.base} {net.name}".encode()), dtype=torch.uint8)


def take_base(net: Tuned, state: dict[str, Any], prefix: str, *args: Any) -> None:
    """Let a `state_dict` be loaded that says which weights it belongs to; raises `UserError` if these are others."""
    if not net.adapted:
        return
    saved = bytes(state.pop(prefix + BASE, torch.empty(0, dtype=torch.uint8)).tolist()).decode(errors="replace")
    before, _, name = saved.partition(" ")
    if before != net.base:
        other = f"these adapters belong to other weights ({name or 'none are named'})"
        raise UserError(f"model.pretrained={net.name}: {other}. Give those that they were trained with.")
    state.update({prefix + name: weight for name, weight in frozen_weights(net).items()})


def rates(net: nn.Module) -> dict[nn.Parameter, float]:
    """The factor of the learning rate for each weight of a network."""
    return {weight: net.rates[name] for name, weight in net.named_parameters()} if isinstance(net, Tuned) else {}


def save(net: Any, assets: dict[str, bytes], folder: Path) -> None:
    """Write what plain transformers loads: config.json, model.safetensors, and the files that came with the model."""
    net.merged().model.save_pretrained(folder)
    for name in assets.keys() - {CONFIG}:
        (folder / name).write_bytes(assets[name])
