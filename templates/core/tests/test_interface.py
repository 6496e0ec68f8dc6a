"""Whether `task/` keeps to its interface, whatever it holds: `interface.py` says what that is.

A loss that couples the samples of a batch, such as a contrastive one, cannot be added up from parts of it. Say so
in its docstring, and leave out the test that it fails.
"""

import json
import pickle
from itertools import chain

import numpy as np
import pytest
import torch

from my_project import seeding
from my_project.interface import Data
from my_project.runs.metrics import MetricsFile
from my_project.task import inputs
from my_project.task.data import open_data
from my_project.task.model import blocks, build

SPLITS = ("train", "val", "test")
NUM = 5  # samples of a batch here


@pytest.fixture(params=SPLITS)
def source(request: pytest.FixtureRequest, data: Data):
    return getattr(data, request.param)


@pytest.fixture
def net(smoke, data):
    torch.manual_seed(0)
    return build(smoke.model, data.about, data.assets, init=True).eval()


@pytest.fixture
def batch(data):
    return data.train.batch(choose(data.train), None)


def choose(source):
    """Samples from all over a source; the first comes twice, where there are too few."""
    return np.linspace(0, len(source) - 1, NUM).astype(int).tolist()


def rows(batch, first, last):
    return {name: value[first:last] for name, value in batch.items()}


def seeds_of(indices):
    return seeding.sample_seeds(0, 0, indices)


# ---- data


@pytest.mark.parametrize("num", [1, NUM])
def test_a_source_gives_as_many_rows_as_it_is_asked_for(source, num):
    indices = choose(source)[:num]
    for seeds in (None, seeds_of(indices)):
        batch = source.batch(indices, seeds)
        assert isinstance(batch, dict)
        assert all(isinstance(value, torch.Tensor) for value in batch.values())
        assert {name: len(value) for name, value in batch.items()} == dict.fromkeys(batch, num)


@pytest.mark.parametrize("seeded", [False, True])
def test_a_sample_is_the_same_whatever_batch_it_is_in(source, seeded):
    """Where a batch is filled up to its longest sample, up to the end of the sample."""
    indices = choose(source)
    seeds = seeds_of(indices) if seeded else None
    whole = source.batch(indices, seeds)
    for row, index in enumerate(indices):
        alone = source.batch([index], None if seeds is None else seeds[row : row + 1])
        for name, value in alone.items():
            same = whole[name][row][tuple(slice(size) for size in value[0].shape)]
            torch.testing.assert_close(same, value[0], equal_nan=True, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("seeded", [False, True])
def test_nothing_but_the_seeds_is_random(source, seeded):
    indices = choose(source)
    first, second = (draw(source, indices, seeded, number) for number in (1, 2))
    torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)


def draw(source, indices, seeded, number):
    """A batch, after other random numbers were drawn elsewhere."""
    torch.manual_seed(number)
    np.random.seed(number)
    return source.batch(indices, seeds_of(indices) if seeded else None)


def test_a_source_can_be_sent_to_another_process(source):
    other = pickle.loads(pickle.dumps(source))
    assert (len(other), other.fingerprint) == (len(source), source.fingerprint)
    ours, theirs = (each.batch(choose(source), None) for each in (source, other))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=0, equal_nan=True)


def test_the_same_data_have_the_same_fingerprint_and_the_splits_different_ones(smoke, data):
    again = open_data(smoke.data)
    prints = [getattr(data, name).fingerprint for name in SPLITS]
    assert [getattr(again, name).fingerprint for name in SPLITS] == prints
    assert len({*prints}) == 3


def test_about_is_plain_json_and_assets_are_bytes(data):
    text = json.dumps(data.about, allow_nan=False)
    assert json.loads(text) == data.about
    assert len(text) <= 2**16
    assert all(isinstance(content, bytes) for content in data.assets.values())


# ---- model


def test_a_network_that_is_built_without_weights_takes_those_of_another(net, smoke, data):
    about = json.loads(json.dumps(data.about))  # as a run keeps it
    torch.manual_seed(1)
    other = build(smoke.model, about, data.assets, init=False).eval()
    other.load_state_dict(net.state_dict())
    ours, theirs = (ask(each, inputs.example(about, 2)) for each in (net, other))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=0, equal_nan=True)


def test_blocks_are_parts_of_the_network(net):
    parts = {*net.modules()}
    assert all(block in parts for block in blocks(net))


# ---- objective


def losses(objective, net, batch):
    """What `Objective.loss` gives, for each of its phases if it has some."""
    phases = [(phase,) for phase in getattr(objective, "phases", ())]
    return [objective.loss(net, batch, *phase) for phase in phases or [()]]


def test_a_loss_is_a_float32_sum_and_a_count(net, objective, batch):
    for total, count in losses(objective, net, batch):
        assert (total.shape, total.dtype) == ((), torch.float32)
        assert count.shape == ()
        assert count > 0
        assert not count.requires_grad


def test_a_loss_can_be_differentiated(net, objective, batch):
    weights = [weight for weight in chain(net.parameters(), objective.parameters()) if weight.requires_grad]
    for total, _ in losses(objective, net.train(), batch):
        gradients = [grad for grad in torch.autograd.grad(total, weights, allow_unused=True) if grad is not None]
        assert any(gradient.any() for gradient in gradients)
        assert all(gradient.isfinite().all() for gradient in gradients)


@torch.inference_mode()
def test_the_loss_of_a_batch_is_the_sum_of_those_of_its_parts(net, objective, batch):
    """A mean is not: `loss` gives a sum and its count, and nothing is divided before all of a step is counted."""

    torch.manual_seed(0)
    whole = losses(objective, net, batch)
    torch.manual_seed(0)  # for a loss that draws numbers, one after another
    first, second = losses(objective, net, rows(batch, 0, 2)), losses(objective, net, rows(batch, 2, NUM))
    for (total, count), *parts in zip(whole, first, second, strict=True):
        torch.testing.assert_close(total, sum(part for part, _ in parts), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(count, sum(part for _, part in parts))


@torch.inference_mode()
def test_what_is_measured_of_a_batch_is_the_sum_over_its_parts(net, objective, batch):
    def measure(*parts):
        generator = seeding.generator(1)
        return [objective.measure(net, part, generator) for part in parts]

    [whole], (first, second) = measure(batch), measure(rows(batch, 0, 2), rows(batch, 2, NUM))
    assert {value.dtype for value in whole.values()} == {torch.float64}
    assert whole.keys() == first.keys() == second.keys()
    for name, value in whole.items():
        torch.testing.assert_close(value, first[name] + second[name], rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_scores_have_all_that_has_a_direction_and_the_one_that_is_monitored(net, objective, batch):
    scores = objective.scores(objective.measure(net, batch, seeding.generator(1)))
    assert scores.keys() >= objective.directions.keys()
    assert objective.monitor in objective.directions
    assert {*objective.directions.values()} <= {"min", "max"}
    assert {type(score) for score in scores.values()} == {float}


# ---- inputs


@torch.inference_mode()
def ask(net, arrays):
    """What the exported network answers, by name."""
    answers = inputs.Exported(net).eval()(*(torch.from_numpy(arrays[name]) for name in inputs.INPUTS))
    return dict(zip(inputs.OUTPUTS, answers if isinstance(answers, tuple) else (answers,), strict=True))


def test_the_exported_network_answers_each_input_whatever_batch_it_is_in(net, data):
    arrays = inputs.example(data.about, 2)
    whole = ask(net, arrays)
    for row in range(2):
        alone = ask(net, {name: value[row : row + 1] for name, value in arrays.items()})
        for name, answers in alone.items():
            torch.testing.assert_close(answers[0], whole[name][row], rtol=0, atol=inputs.TOLERANCE)


def test_the_example_and_the_samples_of_a_source_are_inputs_of_one_kind(data, batch):
    example, sample = inputs.example(data.about, 2), inputs.from_batch(batch)
    assert {*example} == {*sample} == {*inputs.INPUTS}
    assert {name: (value.dtype, value.ndim) for name, value in example.items()} == {
        name: (value.dtype, value.ndim) for name, value in sample.items()
    }
    assert {len(value) for value in sample.values()} == {NUM}


@torch.inference_mode()
def test_the_exported_network_computes_what_is_measured(net, objective, batch):
    """Each part of the network that is called once gives the same, so what comes before it is the same too."""
    measured = record(net, lambda: objective.measure(net, batch, seeding.generator(1)))
    exported = record(net, lambda: ask(net, inputs.from_batch(batch)))
    for name in measured.keys() & exported.keys():
        torch.testing.assert_close(exported[name], measured[name], rtol=1e-4, atol=1e-4)


def record(net, call):
    """What the innermost parts of the network give, by name; only those that are called once."""
    given: dict[str, list[torch.Tensor]] = {}
    leaves = [(name, part) for name, part in net.named_modules() if not [*part.children()]]
    hooks = [
        part.register_forward_hook(lambda part, args, output, name=name: given.setdefault(name, []).append(output))
        for name, part in leaves
    ]
    call()
    for hook in hooks:
        hook.remove()
    return {name: outputs[0] for name, outputs in given.items() if len(outputs) == 1}


def test_each_input_gets_a_prediction_that_is_plain_json(net, data, batch):
    samples = [{name: value[row] for name, value in inputs.from_batch(batch).items()} for row in range(NUM)]
    answers = ask(net, inputs.collate(samples))
    predictions = inputs.predictions({name: answer.numpy() for name, answer in answers.items()}, data.about)
    assert len(predictions) == NUM
    assert json.loads(json.dumps(predictions)) == predictions


# ---- all of it


def test_a_short_run_lowers_the_training_loss(trained, objective):
    if getattr(objective, "phases", ()):
        pytest.skip("the losses of phases may pull against each other")
    losses = [float(value) for _, _, name, value in MetricsFile(trained.out_dir).read() if name == "train/loss"]
    assert np.mean(losses[-10:]) < min(losses[:5])
