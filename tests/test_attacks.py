"""Attacks against an independent implementation (foolbox), and what holds for every example."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from foolbox.attacks.projected_gradient_descent import (
    L2ProjectedGradientDescentAttack,
    LinfProjectedGradientDescentAttack,
)
from foolbox.criteria import Misclassification, TargetedMisclassification
from foolbox.models.pytorch import PyTorchModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from advfeat import data
from advfeat.attacks import BALLS, perturb, within
from advfeat.experiment_file import load_experiment
from advfeat.models import Normalized, build
from advfeat.spec import Attack, Norm
from advfeat.training import as_pixels, fit

FOOLBOX = {
    "l2": L2ProjectedGradientDescentAttack,
    "linf": LinfProjectedGradientDescentAttack,
}


@pytest.fixture(scope="module")
def attacked() -> tuple[Normalized, Tensor, Tensor]:
    """A trained model with the test images, float32 in [0, 1], and labels that it gets right."""
    experiment = load_experiment("digits")
    images = data.load(experiment.data)
    training = torch.from_numpy(images.train.images), torch.from_numpy(images.train.labels)
    model = fit(*training, experiment.source, classes=10, seed=0)
    pixels, labels = as_pixels(torch.from_numpy(images.test.images)), torch.from_numpy(images.test.labels)
    right = model(pixels).argmax(1) == labels
    assert right.float().mean() > 0.95
    return model, pixels[right], labels[right]


def lengths(norm: Norm, images: Tensor, adversarial: Tensor) -> np.ndarray:
    """Measure perturbations with numpy in float64, apart from the code under test."""
    difference = (adversarial.numpy().astype(np.float64) - images.numpy().astype(np.float64)).reshape(
        len(images), -1
    )
    order = {"l2": 2, "linf": np.inf}[norm]
    return np.asarray(np.linalg.norm(difference, ord=order, axis=1))


@pytest.mark.parametrize("targeted", [True, False], ids=["targeted", "untargeted"])
@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.8), ("l2", 1.5), ("linf", 0.2), ("linf", 0.3)])
def test_as_strong_as_foolbox(
    attacked: tuple[Normalized, Tensor, Tensor], norm: Norm, eps: float, targeted: bool
) -> None:
    model, images, labels = attacked
    steps, step_size = 20, eps / 8
    aims = (labels + 1) % 10 if targeted else labels
    attack = Attack(norm=norm, eps=eps, steps=steps, step_size=step_size, targeted=targeted)
    ours = perturb(model, images, aims, attack)

    peer = FOOLBOX[norm](abs_stepsize=step_size, steps=steps, random_start=False)
    criterion = TargetedMisclassification if targeted else Misclassification
    wrapped = PyTorchModel(model, bounds=(0, 1), device="cpu")
    _, theirs, _ = peer(wrapped, images, criterion(aims), epsilons=eps)

    def success(adversarial: Tensor) -> float:
        with torch.no_grad():
            hits = model(adversarial).argmax(1) == aims
        return float((hits if targeted else ~hits).float().mean())

    assert success(theirs) > 0.2, "the comparison says nothing where the peer fails"
    assert abs(success(ours) - success(theirs)) <= 0.02
    assert lengths(norm, images, ours).max() <= eps
    assert ours.min() >= 0
    assert ours.max() <= 1


@settings(max_examples=40, deadline=None)
@given(
    norm=st.sampled_from(["l2", "linf"]),
    eps=st.floats(1e-3, 20),
    steps=st.integers(1, 4),
    step_size=st.none() | st.floats(1e-4, 10),
    targeted=st.booleans(),
    random_start=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
    saturated=st.booleans(),
)
def test_every_example_lies_in_the_ball_and_in_the_pixel_range(
    norm: Norm,
    eps: float,
    steps: int,
    step_size: float | None,
    targeted: bool,
    random_start: bool,
    seed: int,
    saturated: bool,
) -> None:
    attack = Attack(
        norm=norm, eps=eps, steps=steps, step_size=step_size, targeted=targeted, random_start=random_start
    )
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((7, 3, 6, 6), generator=generator)
    images = images.round() if saturated else images
    labels = torch.randint(0, 4, (7,), generator=generator)
    model = build("mlp", width=4, image_shape=(3, 6, 6), classes=4)
    adversarial = perturb(model, images, labels, attack, seed=seed)
    assert adversarial.dtype == torch.float32
    assert adversarial.shape == images.shape
    assert lengths(norm, images, adversarial).max() <= eps
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


@settings(max_examples=60, deadline=None)
@given(norm=st.sampled_from(["l2", "linf"]), eps=st.floats(1e-6, 5), seed=st.integers(0, 2**31 - 1))
def test_within_mends_whatever_it_is_given(norm: Norm, eps: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((5, 1, 4, 4), generator=generator)
    wild = images + 10 * torch.randn((5, 1, 4, 4), generator=generator)
    mended = within(images, wild, BALLS[norm], eps)
    assert lengths(norm, images, mended).max() <= eps
    assert mended.min() >= 0
    assert mended.max() <= 1


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_random_starts_fill_the_ball(norm: Norm) -> None:
    like = torch.zeros((400, 1, 3, 3))
    points = BALLS[norm].random_point(like, 0.5, torch.Generator().manual_seed(0))
    measured = lengths(norm, like, points)
    assert measured.max() <= 0.5 + 1e-6
    # Uniform in the ball of 9 dimensions: the radius has median 2 ** (-1 / 9) of eps in both norms.
    assert np.median(measured) == pytest.approx(0.5 * 2 ** (-1 / 9), rel=0.02)


def test_the_model_is_left_as_it_was() -> None:
    model = build("cnn", width=4, image_shape=(1, 8, 8), classes=3).train()
    frozen = next(model.parameters()).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    perturb(model, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0]), Attack(eps=1, steps=3))
    assert model.training
    assert not frozen.requires_grad
    assert sum(parameter.requires_grad for parameter in model.parameters()) > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_no_images_give_no_examples() -> None:
    model = build("mlp", width=4, image_shape=(1, 4, 4), classes=2)
    none = perturb(model, torch.empty(0, 1, 4, 4), torch.empty(0, dtype=torch.int64), Attack(eps=1, steps=1))
    assert none.shape == (0, 1, 4, 4)


def test_attacks_need_neither_ray_nor_prefect_nor_a_store() -> None:
    program = (
        "import sys, advfeat.attacks; "
        "print(*sorted({'ray', 'prefect', 's3fs', 'fsspec', 'pandas', 'sklearn'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
