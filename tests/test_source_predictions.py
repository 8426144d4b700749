"""Predictions of a source model are those of fp32, though bf16 is asked about most images."""

import pytest
import torch
from torch import Tensor, nn

from advfeat import data
from advfeat.attacks import perturb
from advfeat.datasets.predictions import screened, source_predictions
from advfeat.models import Normalized, as_pixels, predict
from advfeat.planning import load_experiment
from advfeat.spec import TargetedAttack
from advfeat.training import TrainingSet, fit


@pytest.fixture(scope="module")
def trained() -> tuple[Normalized, Tensor, Tensor]:
    """A model, real images of digits, and those attacked."""
    experiment = load_experiment("digits", ["source.epochs=4"])
    digits = data.load(experiment.data).train
    images, labels = torch.from_numpy(digits.images), torch.from_numpy(digits.labels)
    model = fit(TrainingSet.in_memory(images, labels), experiment.source, classes=10, seed=0)
    pixels = as_pixels(images)
    attack = TargetedAttack(norm="l2", eps=0.5, steps=4, step_size=0.2)
    return model, pixels, perturb(model, pixels, (labels + 1) % 10, attack)


class Counting:
    """Counts the images that a model is asked about."""

    def __init__(self, model: nn.Module) -> None:
        self.images = 0
        self.handle = model.register_forward_hook(self)

    def __call__(self, _model: nn.Module, given: tuple[Tensor], _logits: Tensor) -> None:
        self.images += len(given[0])


@pytest.mark.parametrize("attacked", [False, True])
def test_they_are_fp32s_and_few_images_are_asked_in_fp32(
    trained: tuple[Normalized, Tensor, Tensor], attacked: bool
) -> None:
    model, real, adversarial = trained
    images = adversarial if attacked else real
    wanted = predict(model, images)
    counting = Counting(model)
    try:
        found = screened(model, images)
    finally:
        counting.handle.remove()
    assert (found == wanted).all()
    assert counting.images < len(images) / 2


def test_where_nothing_is_sure_all_are_asked_in_fp32(trained: tuple[Normalized, Tensor, Tensor]) -> None:
    model, real, _ = trained
    images = (real.mean(0, keepdim=True) + 1e-4 * torch.rand(len(real), 1, 8, 8)).clamp(0, 1)
    assert (screened(model, images) == predict(model, images)).all()


class Branching(nn.Module):
    """What torch.fx cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm2d(1), nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        normed = self.norm(images)
        logits: Tensor = self.head((normed if normed.mean() > -1e9 else -normed).flatten(1))
        return logits


def test_a_network_that_bf16_cannot_be_asked_of_is_asked_in_fp32(
    trained: tuple[Normalized, Tensor, Tensor],
) -> None:
    model, images = Normalized(Branching(), 1).eval(), trained[1]
    with pytest.warns(UserWarning, match="asked in fp32 alone .bf16 cannot be asked: "):
        assert (screened(model, images) == predict(model, images)).all()


def test_a_cpu_asks_in_fp32_as_ever(trained: tuple[Normalized, Tensor, Tensor]) -> None:
    model, images, _ = trained
    counting = Counting(model)
    try:
        found = source_predictions(model, images)
    finally:
        counting.handle.remove()
    assert counting.images == len(images)
    assert (found == predict(model, images)).all()
