import re
import subprocess
import sys
from pathlib import Path

import pytest

from my_project.config import Config, parse


def test_arguments_win_over_the_file_and_the_file_over_the_defaults(tmp_path, command_line):
    file = tmp_path / "run.yaml"
    file.write_text("epochs: 3\noptim:\n  lr: 0.5\n")
    command_line("--config", file, "--optim.lr", "0.25")
    cfg, _ = parse("train")
    assert (cfg.epochs, cfg.optim.lr, cfg.data) == (3, 0.25, Config().data)


@pytest.mark.parametrize("given", [["--optim.lrr", "1"], ["--config", "run.yaml"]])
def test_a_misspelt_setting_names_its_nearest_neighbour(given, tmp_path, monkeypatch, command_line, capsys):
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("optim:\n  lrr: 1\n")
    command_line(*given)
    with pytest.raises(SystemExit) as end:
        parse("train")
    assert end.value.code == 2
    assert "--optim.lrr is not a setting. Did you mean --optim.lr?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "name", "bound"),
    [
        (["--epochs", "0"], "epochs", "greater than 0"),
        (["--optim.lr", "-1"], "optim.lr", "greater than or equal to 0"),
        (["--ema_decay", "1"], "ema_decay", "less than 1"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(given, name, bound, command_line, capsys):
    command_line(*given)
    with pytest.raises(SystemExit) as end:
        parse("train")
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert name in said
    assert given[1] in said
    assert bound in said


def test_settings_are_plain_values_by_dotted_name():
    settings = Config(out_dir=Path("runs/x")).flat()
    assert settings["out_dir"] == str(Path("runs/x"))
    assert settings["optim.lr"] == Config().optim.lr


def test_settings_are_read_without_importing_torch():
    """Also those of the task, or `--help` and a misspelt setting would take seconds to answer."""
    module = "my_project.config"
    code = f"import importlib, sys; sys.path = {sys.path}; sys.modules.pop('torch', None)"  # if Python begins with it
    code += f"; importlib.import_module('{module}')"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_every_setting_has_a_sentence(command_line, capsys):
    """As a docstring below it, which `--help` shows."""
    command_line("--help")
    with pytest.raises(SystemExit):
        parse("train")
    helps = dict(re.split(r"\s", text, maxsplit=1) for text in capsys.readouterr().out.split("\n  --")[1:])
    for name in Config().flat():
        sentence = re.split(r"\s{2,}", helps[name], maxsplit=1)[1]
        assert re.match(r"[^(\s]", sentence), f"{name}: {sentence}"
