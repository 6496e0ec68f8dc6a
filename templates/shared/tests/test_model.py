import pytest
import torch

from my_project.model import ModelConfig, Net
from my_project.objective import (
    loss,
    probabilities,
    scores,
)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net(ModelConfig(width=8), channels=1, num_classes=10)


@pytest.mark.parametrize("size", [4, 8, 33])
def test_images_of_any_size_give_one_logit_per_class(net, size):
    assert net(torch.rand(2, 1, size, size)).shape == (2, 10)


def test_an_image_gets_the_same_logits_alone_and_in_a_batch(net):
    images = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(net.eval()(images)[:1], net.eval()(images[:1]))


def test_a_few_steps_lower_the_loss(net):
    images, labels = torch.rand(32, 1, 8, 8), torch.arange(32) % 10
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(10):
        losses.append(loss(net(images), labels))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]


def test_probabilities_add_up_to_one(net):
    torch.testing.assert_close(probabilities(net(torch.rand(3, 1, 8, 8))).sum(1), torch.ones(3))


def test_scores_are_those_of_the_confusion_matrix():
    confusion = torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]])  # the third class is absent
    assert scores(confusion)["accuracy"] == pytest.approx(5 / 6)
    assert scores(confusion)["f1"] == pytest.approx((6 / 7 + 4 / 5) / 2)
