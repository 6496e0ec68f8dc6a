"""The folder that a hub of models takes (`hf upload NAME runs/0001/export/hub`): weights, settings, assets, a card."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file

from ..config import Config
from ..errors import checked
from ..runs.files import load_best, save_json, save_text
from ..trained import Trained

CARD = Path(__file__).parents[1] / "task/card.md"  # says what the task is about; words in braces are filled in


def write(folder: Path, run: Path, cfg: Config, trained: Trained) -> None:
    """Write `model.safetensors`, `config.json`, `assets/` and the card, `README.md`."""
    (folder / "assets").mkdir(parents=True)
    weights = {name: value.clone().contiguous() for name, value in trained.net.state_dict().items()}
    #: if generator == "gan"
    exported = {*map(id, trained.exported.parameters())}  # those of the generator
    weights = {name: weights[name] for name, value in trained.net.named_parameters() if id(value) in exported}
    #: endif
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    groups = {name: value for name, value in cfg.plain().items() if name in ("data", "model", "objective", "optim")}
    save_json(folder / "config.json", {**groups, "about": trained.about})
    for name, content in trained.assets.items():
        (folder / "assets" / name).write_bytes(content)
    scores = {name: f"{score:.4g}" for name, score in load_best(run)[0]["scores"].items()}
    card = CARD.read_text("utf-8") if CARD.exists() else "{scores}\n\n{training}\n"
    card = card.replace("{metrics}", ", ".join(scores)).replace("{scores}", tabulate(scores))
    save_text(folder / "README.md", card.replace("{training}", tabulate(trace(run))))


def tabulate(rows: Mapping[str, object]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def trace(run: Path) -> dict[str, object]:
    """How a run came about."""
    with checked(path := run / "run.json"):
        told = json.loads(path.read_text("utf-8")) if path.exists() else {}
        if not told:
            return {"run.json": "is missing"}
        changes = f", and {told['uncommitted']} bytes that were not committed" if told["uncommitted"] else ""
        return {
            "command": f"`{shlex.join(['python', *told['command'][1:]])}`",
            "begun": told["started"],
            "commit": f"{told['commit'] or 'none'}{changes}",
            "fingerprint of the data": told["data"],
            "samples": ", ".join(f"{count} {name}" for name, count in told["samples"].items()),
            "versions": ", ".join(f"{name} {version}" for name, version in told["versions"].items()),
        }
