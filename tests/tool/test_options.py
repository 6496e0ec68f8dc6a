"""`mlscaffold options` shows the whole catalogue, and the README shows the same."""

import json
from pathlib import Path

import pexpect  # type: ignore[import-untyped]

from mlscaffold.catalogue.options import as_markdown
from mlscaffold.catalogue.questions import read
from mlscaffold.catalogue.words import flag_name
from tests.support.command import mlscaffold, screen, terminal
from tests.support.projects import CATALOGUE


def test_the_list_names_every_option_choice_and_default(repository: Path, tmp_path: Path) -> None:
    ran = mlscaffold("options", cwd=tmp_path)
    lines = ran.out.splitlines()
    assert (ran.code, ran.err) == (0, "")
    for question in read(repository).questions:
        assert f"{flag_name(question)}  {question.help}" in lines
        for choice in question.choices:
            assert any(choice.label in line for line in lines)
    assert (
        "    lightning  PyTorch Lightning (the Trainer runs the loop, you fill in methods)  (default)"
        in lines
    )


def test_on_a_terminal_lines_are_folded_between_words(tmp_path: Path) -> None:
    child = terminal("options", cwd=tmp_path, dimensions=(100, 60))
    child.expect(pexpect.EOF)
    assert len(screen(child)) > len(mlscaffold("options", cwd=tmp_path).out.splitlines())
    said = " ".join(" ".join(screen(child)).split())
    for question in CATALOGUE.questions:
        assert question.help in said
        for choice in question.choices:
            assert choice.label in said


def test_json_holds_what_a_program_needs(repository: Path, tmp_path: Path) -> None:
    catalogue = read(repository)
    options = json.loads(mlscaffold("options", "--json", cwd=tmp_path).out)
    assert [option["name"] for option in options] == [question.name for question in catalogue.questions]
    framework = next(option for option in options if option["name"] == "framework")
    assert framework["flag"] == "--framework"
    assert framework["default"] == "lightning"
    assert framework["choices"][1] == {
        "value": "ignite",
        "label": "PyTorch-Ignite (you write the step, handlers react to events)",
        "closed_because": [],
    }


def test_rules_are_told_with_their_choice(tmp_path: Path) -> None:
    rule = "{% if a == 'y' %}Not with y.{% endif %}"
    (tmp_path / "copier.yml").write_text(
        "a: {type: str, default: x, choices: [x, y], help: 'One | two?'}\n"
        f'b: {{type: str, default: u, choices: {{U: u, V: {{value: v, validator: "{rule}"}}}}}}\n'
    )
    table = as_markdown(read(tmp_path))
    assert "| `--a` | **`x`**, `y` | One &#124; two? |" in table
    assert table.endswith("\n\n- `--b v`: Not with y.\n")


def test_the_readme_has_the_table_of_the_catalogue(repository: Path, tmp_path: Path) -> None:
    table = mlscaffold("options", "--markdown", cwd=tmp_path).out
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert table.strip() in readme, "Write the output of `mlscaffold options --markdown` into README.md"
