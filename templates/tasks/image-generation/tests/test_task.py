"""What is special about this task; `test_interface.py` holds for any. Change this file with `task/`, and no other."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from my_project import generated, predict
from my_project.errors import UserError
from my_project.generated import frechet, moments
from my_project.noise import normal, seeds_of
from my_project.task import inputs, pictures
from my_project.task.data import Pixels, open_data
from my_project.task.model import build
from my_project.task.objective import Objective
from my_project.task.settings import DataConfig, ModelConfig, ObjectiveConfig
from my_project.train import run
from my_project.trained import evaluate


def everything(source):
    return source.batch(list(range(len(source))), None)


class Made(torch.nn.Module):
    """Gives images, whatever it is asked for."""

    def __init__(self, images):
        super().__init__()
        self.images = images

    def sample(self, noise, label):
        return self.images


def score(real, images):
    """The scores of images that stand for those of a batch."""
    return generated.compare(generated.measure(Made(images), real, 10), 10, "Do this.")


def means_of(real):
    """One image for each class."""
    means = torch.stack([real["image"][real["label"] == label].mean(0) for label in range(10)])
    return means[real["label"]]


@pytest.fixture(scope="module")
def opened():
    return open_data(DataConfig(repeat=1))


# ---- noise


def test_noise_is_standard_normal_and_differs_from_seed_to_seed():
    noise = normal(seeds_of([*range(2000)]), 65)
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    correlation = torch.corrcoef(noise.T) - torch.eye(65)
    assert correlation.abs().max() < 0.12
    assert len(noise.unique()) > 0.99 * noise.numel()
    assert torch.equal(normal(seeds_of([3]), 7), noise[3:4, :7])
    ends = normal(torch.arange(2**20), 2)
    assert ends.isfinite().all()


# ---- data


def test_splits_share_no_image_and_have_all_classes(opened):
    batches = [everything(source) for source in opened[:3]]
    seen = [{image.numpy().tobytes() for image in batch["image"]} for batch in batches]
    assert len(set.union(*seen)) == sum(map(len, seen))
    assert all(batch["label"].unique().tolist() == [*range(10)] for batch in batches)


def test_an_image_that_is_repeated_comes_with_other_noise(opened):
    source = open_data(DataConfig(repeat=3)).train
    assert len(source) == 3 * len(opened.train)
    one, again = (source.batch([number], seeds_of([number])) for number in (5, 5 + len(opened.train)))
    assert torch.equal(one["image"], again["image"])
    assert not torch.isclose(one["noise"], again["noise"]).any()


def test_a_source_on_another_device_gives_the_same(opened):
    moved = opened.train.to(torch.device("cpu"))
    assert isinstance(moved, Pixels)
    assert torch.equal(moved.batch([3], None)["noise"], opened.train.batch([3], None)["noise"])


# ---- model and objective


@pytest.mark.parametrize("shape", [[1, 8, 8], [3, 4, 12]])
def test_images_have_the_shape_of_the_noise_and_are_in_0_to_1(shape):
    net = build(ModelConfig(width=8), {"classes": ["a", "b"], "shape": shape}, {}, init=True)
    images = net.sample(3 * torch.randn(5, *shape), torch.tensor([0, 1, 1, 0, 1]))
    assert images.shape == (5, *shape)
    assert 0 <= images.min() <= images.max() <= 1


def test_patches_that_do_not_fit_the_images_are_named():
    with pytest.raises(UserError, match=r"model\.patch=3: images have 8x8 pixels. Give a divisor of both"):
        build(ModelConfig(patch=3), {"classes": ["a", "b"], "shape": [1, 8, 8]}, {}, init=True)


def test_real_images_are_nearer_than_noise_and_than_the_mean_of_each_class(opened):
    real = everything(opened.val)
    found = {
        "same": score(real, real["image"]),
        "mean": score(real, means_of(real)),
        "noise": score(real, torch.rand(real["image"].shape)),
        "other class": score(real, real["image"].roll(1, 0)),
    }
    assert found["same"]["frechet"] == pytest.approx(0, abs=1e-6)
    assert found["same"]["spread"] == pytest.approx(0, abs=1e-6)
    assert found["mean"]["spread"] == pytest.approx(1)
    assert found["noise"]["frechet"] > 2 * found["mean"]["frechet"] > 2
    assert found["other class"]["frechet"] > 0.5


def test_images_of_a_class_that_are_nearly_all_alike_are_told_of(opened, caplog):
    real = everything(opened.val)
    means = means_of(real)
    for share in (0.3, 0.1):
        score(real, means + share * (real["image"] - means))
    alike = "Images of a class are nearly all alike: they vary 1.0% as much as real ones. Do this."
    assert [record.getMessage() for record in caplog.records] == [alike]


def test_the_distance_is_that_of_two_normal_distributions():
    """In one dimension: that of the means, squared, and that of the standard deviations, squared."""
    first, second = torch.tensor([[1.0], [5.0]]).double(), torch.tensor([[2.0], [4.0], [9.0]]).double()
    rows = [torch.cat((torch.ones_like(part), part), 1) for part in (first, second)]
    found = frechet(*moments(rows[0].T @ rows[0]), *moments(rows[1].T @ rows[1]))
    deviation = first.std(correction=0) - second.std(correction=0)
    assert found == pytest.approx((4 + deviation**2).item())


@torch.inference_mode()
def test_the_picture_has_a_row_for_each_class(opened):
    objective, batch = Objective(ObjectiveConfig(), opened.about), everything(opened.val)
    cells = batch["cell"]
    shown = (cells >= 0).nonzero().squeeze(1)
    assert torch.equal(cells[shown] // 8, batch["label"][shown])
    assert sorted(cells[shown].tolist()) == [*range(80)]
    net = build(ModelConfig(width=8), opened.about, {}, init=True)
    sums = objective.measure(net, batch, torch.Generator())
    torch.testing.assert_close(sums["shown"][cells[shown]], net.sample(batch["noise"], batch["label"])[shown].double())
    figure = pictures.draw(sums, opened.about)["samples"]
    assert figure.axes[0].images[0].get_array().shape[:2] == (10 * 9, 8 * 9)  # a line between images


#: if generator == "gan"
class Slope(torch.nn.Module):
    """Calls an image as real as its pixels add up to; images are what is asked for, with no pixel changed."""

    generator = staticmethod(lambda noise, label: noise)

    def discriminator(self, images, label):
        return images.sum(dim=(1, 2, 3))


def test_a_discriminator_pays_for_being_steep_at_real_and_at_generated_images(opened):
    batch, softplus = opened.val.batch([0, 1], None), torch.nn.functional.softplus
    sums = {name: batch[name].sum(dim=(1, 2, 3)) for name in ("noise", "nudge")}
    ahead = (2 * batch["image"] - 1).sum(dim=(1, 2, 3)) - sums["noise"]
    for penalty in (0.0, 0.5):
        objective = Objective(ObjectiveConfig(penalty=penalty), opened.about)
        total, count = objective.loss(Slope(), batch, "discriminator")
        assert count == 2
        expected = softplus(-ahead) + penalty * 2 * sums["nudge"].square()
        torch.testing.assert_close(total, expected.sum(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(objective.loss(Slope(), batch, "generator")[0], softplus(ahead).sum())


def test_each_phase_trains_its_own_network_and_the_generator_alone_is_exported(opened):
    net = build(ModelConfig(width=8), opened.about, {}, init=True)
    objective = Objective(ObjectiveConfig(), opened.about)
    parts = [{*objective.groups(net, phase)} for phase in objective.phases]
    assert not set.intersection(*parts)
    assert set.union(*parts) == {*net.parameters()}
    assert {*inputs.Exported(net).parameters()} == {*net.generator.parameters()}


#: endif
def test_the_network_beats_noise_and_one_image_for_each_class(smoke, opened, tmp_path):
    steps = replace(smoke, epochs=200, max_steps=200, validate_every=200, precision="fp32")
    cfg = replace(steps, num_threads=1, out_dir=tmp_path, model=ModelConfig(width=32, depth=2))
    #: if generator == "gan"
    constant = replace(smoke.optim, schedule="plateau")
    cfg = replace(cfg, max_steps=160, model=ModelConfig(), optim=constant, ema_decay=0.98)
    #: endif
    run(cfg)
    found, real = evaluate(tmp_path, cfg), everything(opened.test)
    one_each, noise = (score(real, images)["frechet"] for images in (means_of(real), torch.rand(real["image"].shape)))
    assert found["frechet"] < 0.6 * one_each < noise
    for name in ("samples", "curves"):
        assert (tmp_path / f"{name}.png").exists()


# ---- commands


def test_predict_writes_an_image_for_each_class_and_seed(trained, tmp_path, command_line, capsys):
    command_line("--run", trained.out_dir, "3", "3:0", "7:5-6", "--to", tmp_path / "to")
    predict.main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(line["image"]).name for line in lines] == ["3-0.png", "3-0-2.png", "7-5.png", "7-6.png"]
    first, same, *others = [np.asarray(Image.open(line["image"])) for line in lines]
    assert first.shape == (8, 8)
    assert np.array_equal(first, same)
    assert not np.array_equal(*others)
    assert [line["input"] for line in lines] == ["3-0", "3-0", "7-5", "7-6"]


@pytest.mark.parametrize(
    ("argument", "reason"),
    [("x", "x: give a class, 3, alone"), ("3:", "3:: give a class"), ("3:2147483648", "below"), ("3:9-8", "first one")],
)
def test_what_is_no_class_with_seeds_is_named(trained, argument, reason):
    about = {"classes": ["3"], "shape": [1, 8, 8]}
    with pytest.raises(UserError, match=reason):
        list(inputs.read(argument, about, trained.data))
