"""The folder that a hub of models takes (`hf upload NAME runs/0001/export/hub`): weights, settings, assets, a card."""

import json
import shlex
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file

from ..config import Config
from ..errors import checked
from ..runs.files import load_best, save_json, save_text
from ..trained import Trained

CARD = Path(__file__).parents[1] / "task/card.md"  # what the task says of its models
USE = """```python
import json
from pathlib import Path

from safetensors.torch import load_file

from {{ package }}.task.model import build
from {{ package }}.task.settings import ModelConfig

config = json.loads(Path("config.json").read_text())
assets = {path.name: path.read_bytes() for path in Path("assets").glob("*")}
net = build(ModelConfig(**config["model"]), config["about"], assets, init=False).eval()
net.load_state_dict(load_file("model.safetensors"))
```"""


def write(folder: Path, run: Path, cfg: Config, trained: Trained) -> None:
    """Write `model.safetensors`, `config.json`, `assets/` and `README.md`, with what the run knows of itself."""
    (folder / "assets").mkdir(parents=True)
    weights = {name: value.clone().contiguous() for name, value in trained.net.state_dict().items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    groups = {name: value for name, value in cfg.plain().items() if name in ("data", "model", "objective", "optim")}
    save_json(folder / "config.json", {**groups, "about": trained.about})
    for name, content in trained.assets.items():
        (folder / "assets" / name).write_bytes(content)
    with checked(CARD, "Begin it with a front matter: `---`, lines of YAML, `---`."):
        given = CARD.read_text("utf-8") if CARD.exists() else "---\ntags: [pytorch]\n---\n"
        _, head, text = given.split("---\n", 2)
        facts = dict(yaml.safe_load(head))
    best = load_best(run)[0]
    facts["metrics"] = sorted(best["scores"])
    front = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)
    save_text(folder / "README.md", f"---\n{front}---\n{text}\n{describe(best, run)}")


def trace(run: Path) -> dict[str, str]:
    """How a run came about, as rows of a table."""
    path = run / "run.json"
    with checked(path):
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


def describe(best: dict[str, Any], run: Path) -> str:
    """The parts of the card that follow from the run."""
    scores = "\n".join(f"| {name} | {score:.4g} |" for name, score in best["scores"].items())
    facts = "\n".join(f"| {name} | {value} |" for name, value in trace(run).items())
    return f"""## Scores

Of the validation split, after step {best["step"]}, which had the best {best["monitor"]}:

| score | value |
|---|--:|
{scores}

## How it was trained

| | |
|---|---|
{facts}

`config.json` has the settings.

## Use

With the project's package, in this folder:

{USE}
"""
