"""A model of transformers that is trained further: which of its weights, how fast, and what other programs get."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import NAMES, Auto, ask, save

from my_project import pretrained
from my_project.errors import UserError
from my_project.task.data import open_data
from my_project.task.model import blocks, build, rates
from my_project.train import run
from my_project.trained import Trained
from my_project.training.optim import (
    build_optimizer,
    split_groups,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model."""
    save(path := tmp_path_factory.mktemp("models") / "tiny")
    return path


@pytest.fixture
def tuned(small, folder):
    """Settings of a short run that begins with the tiny model; other settings of the model can be given."""

    def settings(**model):
        model = replace(small.model, **{"pretrained": str(folder), **model})
        return replace(small, precision="fp32", max_steps=8, epochs=8, validate_every=4, model=model)

    return settings


def build_net(cfg):
    torch.manual_seed(0)
    data = open_data(cfg.data)
    return build(cfg.model, data.about, data.assets, init=True)


def test_adapters_alone_are_saved_and_plain_transformers_loads_what_they_make_of_the_model(tuned, folder):
    before = load_file(folder / "model.safetensors")
    run(cfg := tuned(lora_rank=4))
    saved = torch.load(cfg.out_dir / "best.pt", weights_only=True)
    assert any("lora_A" in name for name in saved)
    assert not any("base_layer" in name for name in saved)
    assert bytes(saved["base"].tolist()).decode().partition(" ")[2] == str(folder)
    trained = Trained(cfg.out_dir, cfg)
    plain = {name: weight.clone() for name, weight in trained.net.state_dict().items() if "lora_B" in name}
    assert all(weight.any() for weight in plain.values())
    with torch.inference_mode():
        torch.manual_seed(1)
        adapted, _ = ask(trained.net, Auto.from_pretrained(folder))
        pretrained.save(trained.net, trained.assets, cfg.out_dir / "saved")
        torch.manual_seed(1)
        merged, theirs = ask(trained.net.merged(), Auto.from_pretrained(cfg.out_dir / "saved").eval())
    torch.testing.assert_close(theirs, merged, rtol=0, atol=0)
    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-4)
    after = load_file(folder / "model.safetensors")
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_adapters_are_loaded_with_the_weights_that_they_were_trained_with_alone(tuned, folder, tmp_path):
    net = build_net(cfg := tuned(lora_rank=2))
    weights = net.state_dict()
    build_net(cfg).load_state_dict(weights)
    save(tmp_path / "moved")
    moved = replace(cfg, model=replace(cfg.model, pretrained=str(tmp_path / "moved")))
    build_net(moved).load_state_dict(weights)
    file = tmp_path / "moved/model.safetensors"
    other = {name: weight + 1 for name, weight in load_file(file).items()}
    save_file(other, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"belong to other weights \(.*tiny\)\. Give those"):
        build_net(moved).load_state_dict(weights)


def test_what_is_frozen_does_not_change(tuned, folder):
    cfg = tuned(frozen_layers=2)
    first = build_net(cfg)
    frozen = {name for name, weight in first.named_parameters() if not weight.requires_grad}
    assert {id(weight) for block in blocks(first)[:2] for weight in block.parameters()} <= {
        id(weight) for weight in first.parameters() if not weight.requires_grad
    }
    assert not any(weight.requires_grad is False for weight in blocks(first)[2].parameters())
    run(cfg)
    saved = torch.load(cfg.out_dir / "best.pt", weights_only=True)
    before = first.state_dict()
    changed = {name for name, weight in first.named_parameters() if not torch.equal(saved[name], before[name])}
    assert frozen
    assert changed
    assert not changed & frozen


def test_rates_by_layer_are_what_the_settings_say(tuned):
    net = build_net(cfg := tuned(layer_decay=0.5, head_rate=3.0))
    factors = rates(net)
    for number, block in enumerate(blocks(net)):
        assert {factors[weight] for weight in block.parameters()} == {0.5 ** (3 - number)}
    assert factors[next(net.model.base_model.parameters())] == 0.5**4
    optimizer = build_optimizer([*net.parameters()], cfg.optim)
    split_groups(optimizer, factors)
    given = {weight: group["factor"] for group in optimizer.param_groups for weight in group["params"]}
    assert given == factors
    assert optimizer.param_groups[0]["factor"] == 1.0  # whose rate is logged


def test_adapters_get_the_modules_that_are_named(tuned):
    net = build_net(tuned(lora_rank=2, lora_targets=",".join(NAMES)))
    adapted = {name.partition(".lora_")[0].rpartition(".")[2] for name, _ in net.named_parameters() if ".lora_" in name}
    assert adapted
    assert adapted <= {*NAMES}


def test_a_model_that_cannot_be_trained_is_named_in_a_line(tuned, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def said(**model):
        with pytest.raises(UserError) as error:
            build_net(tuned(**model))
        assert "\n" not in str(error.value)
        return str(error.value)

    def copy(name):
        save(path := tmp_path / name)
        return path

    assert "lora_targets=nothing: no module can be adapted. Such can: " in said(lora_rank=2, lora_targets="nothing")
    assert "this model has 3 layers. Give fewer" in said(frozen_layers=4)
    empty = copy("empty")
    (empty / "model.safetensors").unlink()
    assert "model.safetensors" in said(pretrained=str(empty))
    other = copy("other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "clap"}))
    assert "no clap is a model for" in said(pretrained=str(other))
    assert "there is no such folder" in said(pretrained=str(tmp_path / "missing"))
    (tmp_path / "none").mkdir()
    assert "Give a folder that save_pretrained has written" in said(pretrained=str(tmp_path / "none"))


def test_adapters_need_weights_to_adapt(small):
    with pytest.raises(UserError, match=r"lora_rank=2: adapters need weights to adapt\. Set model\.pretrained"):
        build_net(replace(small, model=replace(small.model, lora_rank=2)))
