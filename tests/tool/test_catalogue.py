"""The catalogue reads what Copier reads, and judges as Copier does."""

import math
from pathlib import Path

import copier
import pytest
import yaml

from mlscaffold.catalogue.questions import Answer, Answers, Catalogue, read
from mlscaffold.errors import AnswerError, CatalogueError

RULES = """
_subdirectory: project
_outside_core: [extra]
framework:
  type: str
  default: lightning
  choices: [lightning, ignite]
strategy:
  type: str
  default: single
  choices:
    One process: single
    Sharded:
      value: fsdp
      validator: "{% if framework == 'ignite' %}Sharding needs Lightning.{% endif %}"
loggers:
  type: str
  default: [a]
  multiselect: true
  choices:
    A: a
    B:
      value: b
      validator: "{% if strategy == 'fsdp' %}b does not go with fsdp.{% endif %}"
compile:
  type: bool
  default: false
extra:
  type: str
  default: none
  choices: [none, some]
name:
  type: str
  default: "{{ framework }}-run"
  validator: "{% if ' ' in name %}No spaces.{% endif %}"
shout:
  type: str
  when: false
  default: "{{ name | upper }}"
"""


@pytest.fixture
def rules(tmp_path: Path) -> Catalogue:
    """A template with a rule of every kind."""
    (tmp_path / "copier.yml").write_text(RULES)
    (tmp_path / "project").mkdir()
    (tmp_path / "project/{{ _copier_conf.answers_file }}.jinja").write_text(
        "{{ _copier_answers|to_nice_yaml }}"
    )
    return read(tmp_path)


def copier_accepts(root: Path, answers: Answers, destination: Path) -> bool:
    try:
        copier.run_copy(str(root), destination, data=dict(answers), defaults=True, quiet=True, pretend=True)
    except ValueError:
        return False
    return True


def test_the_defaults_of_our_catalogue_stand(repository: Path) -> None:
    catalogue = read(repository)
    assert catalogue.objections({}) == {}
    for question in catalogue.questions:
        if question.choices:
            assert catalogue.resolve({})[question.name] in question.values


def test_our_questions_come_in_the_order_of_the_file(repository: Path) -> None:
    document = yaml.safe_load((repository / "copier.yml").read_text(encoding="utf-8"))
    asked = [name for name, spec in document.items() if name[0] != "_" and spec.get("when") is not False]
    assert [question.name for question in read(repository).questions] == asked


def test_every_question_of_ours_is_skipped_by_copier_once_answered(repository: Path) -> None:
    """So that `copier update` runs without a terminal."""
    document = yaml.safe_load((repository / "copier.yml").read_text(encoding="utf-8"))
    for question in read(repository).questions:
        assert document[question.name]["ask"] == "{{ fresh }}"


def test_the_core_matrix_of_ours_is_the_product_of_its_axes(repository: Path) -> None:
    catalogue = read(repository)
    combinations = list(catalogue.combinations())
    axes = [question for question in catalogue.questions if question.core and question.choices]
    assert [axis.name for axis in axes] == ["framework", "strategy", "precision", "loggers", "hpo", "serving"]
    sizes = [2 ** len(axis.choices) if axis.multiselect else len(axis.choices) for axis in axes]
    assert len({str(answers) for answers in combinations}) == len(combinations) == math.prod(sizes)


@pytest.mark.parametrize(
    ("given", "reasons"),
    [
        ({}, {}),
        ({"framework": "ignite"}, {}),
        ({"framework": "tf"}, {"framework": "'tf' is not offered, only lightning, ignite."}),
        (
            {"framework": "lightnin"},
            {
                "framework": "'lightnin' is not offered, only lightning, ignite. Did you mean lightning?",
            },
        ),
        ({"framework": "ignite", "strategy": "fsdp"}, {"strategy": "Sharding needs Lightning."}),
        ({"strategy": "fsdp", "loggers": ["a", "b"]}, {"loggers": "b does not go with fsdp."}),
        ({"strategy": "fsdp", "loggers": ["a"]}, {}),
        ({"loggers": []}, {}),
        ({"loggers": ["b", "c"]}, {"loggers": "'c' is not offered, only a, b."}),
        ({"compile": True}, {}),
        ({"name": "a b"}, {"name": "No spaces."}),
        (
            {"framework": "ignite", "strategy": "fsdp", "name": " "},
            {"strategy": "Sharding needs Lightning.", "name": "No spaces."},
        ),
    ],
)
def test_answers_get_the_verdict_that_copier_gives(
    rules: Catalogue, tmp_path: Path, given: dict[str, Answer], reasons: dict[str, str]
) -> None:
    assert rules.objections(given) == reasons
    assert copier_accepts(rules.root, given, tmp_path / "out") is not bool(reasons)


def test_the_matrix_leaves_out_what_a_rule_closes(rules: Catalogue) -> None:
    """Single: 2 frameworks x 4 sets of loggers; fsdp: lightning x the sets without b; each x compile."""
    combinations = list(rules.combinations())
    assert len(combinations) == (2 * 4 + 2) * 2
    assert all(rules.objections(answers) == {} for answers in combinations)
    assert all("extra" not in answers and "name" not in answers for answers in combinations)


def test_a_rule_tells_its_reasons_before_anyone_meets_them(rules: Catalogue) -> None:
    single, fsdp = rules["strategy"].choices
    assert rules.reasons(rules["strategy"], single) == []
    assert rules.reasons(rules["strategy"], fsdp) == ["Sharding needs Lightning."]


def test_defaults_follow_from_earlier_answers_and_computed_values_are_not_stored(rules: Catalogue) -> None:
    assert rules.resolve({"framework": "ignite"})["name"] == "ignite-run"
    assert "shout" not in rules.resolve({})
    assert rules.complete({"name": "x"})["shout"] == "X"


def test_several_answers_take_the_order_of_the_choices(rules: Catalogue) -> None:
    assert rules.resolve({"loggers": ["b", "a", "b"]})["loggers"] == ["a", "b"]


def test_typed_answers_are_read(rules: Catalogue) -> None:
    assert rules["loggers"].parse("b, a,") == ["a", "b"]
    assert rules["loggers"].parse("none") == []
    assert rules["compile"].parse("Yes") is True
    assert rules["framework"].parse("ignite") == "ignite"


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"framework": 3}, "framework: 3 is no text"),
        ({"framework": None}, "framework: None is no text"),
        ({"loggers": "a"}, "loggers: 'a' is no list of names"),
        ({"loggers": [1]}, "loggers: [1] is no list of names"),
        ({"compile": "perhaps"}, "compile: 'perhaps' is neither true nor false"),
        ({"framewrk": "ignite"}, "'framewrk' is no option. Did you mean framework?"),
        ({"shout": "X"}, "'shout' is no option"),
    ],
)
def test_an_answer_of_another_type_or_to_no_question_is_refused(
    rules: Catalogue, given: dict[str, Answer], wrong: str
) -> None:
    with pytest.raises(AnswerError) as caught:
        rules.resolve(given)
    assert wrong in str(caught.value)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a: [", "cannot be read"),
        ("- a", "holds no questions"),
        ("a: {type: str}", "a has no default"),
        ("a: {type: int, default: 3}", "type is str or bool"),
        ("a: {type: str, default: x, when: '{{ b }}'}", "when is true or false"),
    ],
)
def test_a_catalogue_that_cannot_be_used_says_why(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "copier.yml").write_text(text)
    with pytest.raises(CatalogueError, match=wrong):
        read(tmp_path)


def test_a_rule_that_looks_forward_is_found(tmp_path: Path) -> None:
    (tmp_path / "copier.yml").write_text(
        "_envops: {undefined: jinja2.StrictUndefined}\n"
        "a: {type: str, default: x, validator: '{{ b }}'}\n"
        "b: {type: str, default: y}\n"
    )
    catalogue = read(tmp_path)
    with pytest.raises(CatalogueError, match="'b' is undefined"):
        catalogue.objection(catalogue["a"], {"a": "x"})
