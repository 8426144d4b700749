"""Accuracy under attack: our own descent with restarts against AutoAttack, standard against robust models."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from advfeat import data
from advfeat.errors import InputError
from advfeat.evaluation import autoattack_accuracy, predict, robust_accuracy
from advfeat.models import Normalized, build
from advfeat.planning import build_plan, load_experiment
from advfeat.report.rows import read_rows
from advfeat.spec import ModelName, Norm, TrainSpec, UntargetedAttack
from advfeat.storage import Store
from advfeat.training import TrainingSet, fit
from tests.inline import compute_all

BALLS: list[tuple[Norm, float]] = [("l2", 0.5), ("linf", 0.1)]


def descent(norm: Norm, eps: float, *, steps: int = 20, restarts: int = 0) -> UntargetedAttack:
    return UntargetedAttack(norm=norm, eps=eps, steps=steps, restarts=restarts, precision="fp32")


@pytest.fixture(scope="module")
def digits() -> data.ImageData:
    return data.load(load_experiment("digits").data)


@pytest.fixture(scope="module")
def test_set(digits: data.ImageData) -> tuple[Tensor, NDArray[np.int64]]:
    return torch.from_numpy(digits.test.images[:100]), digits.test.labels[:100]


@pytest.fixture(scope="module")
def standard(digits: data.ImageData) -> Normalized:
    return trained(digits, "cnn")


@pytest.fixture(scope="module")
def perceptron(digits: data.ImageData) -> Normalized:
    """A network that answers the thousands of queries of the Square attack in seconds."""
    return trained(digits, "mlp")


def trained(
    digits: data.ImageData, model: ModelName, adversarial: UntargetedAttack | None = None
) -> Normalized:
    spec = TrainSpec(model=model, width=8, epochs=8, learning_rate=0.05, adversarial=adversarial)
    images, labels = torch.from_numpy(digits.train.images), torch.from_numpy(digits.train.labels)
    return fit(TrainingSet.in_memory(images, labels), spec, classes=10, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "eps"), BALLS)
def test_adversarial_training_makes_robust(
    digits: data.ImageData,
    test_set: tuple[Tensor, NDArray[np.int64]],
    standard: Normalized,
    norm: Norm,
    eps: float,
) -> None:
    hardened = trained(digits, "cnn", descent(norm, eps, steps=5))
    attack = descent(norm, eps, restarts=2)
    images, labels = test_set
    clean = [np.mean(predict(model, images) == labels) for model in (standard, hardened)]
    robust = [robust_accuracy(model, images, labels, attack, 0) for model in (standard, hardened)]
    assert min(clean) > 0.95
    assert robust[0] + 0.2 < robust[1] <= clean[1]


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "eps"), BALLS)
def test_restarts_leave_fewer_images_and_autoattack_hardly_fewer(
    test_set: tuple[Tensor, NDArray[np.int64]], perceptron: Normalized, norm: Norm, eps: float
) -> None:
    pytest.importorskip("pyautoattack", reason="the extra autoattack is not installed")
    images, labels = test_set[0][:50], test_set[1][:50]
    once = robust_accuracy(perceptron, images, labels, descent(norm, eps), 0)
    often = robust_accuracy(perceptron, images, labels, descent(norm, eps, restarts=5), 0)
    strongest = autoattack_accuracy(perceptron, images, labels, norm, eps, 0)
    assert strongest > 0.3, "the comparison says nothing where all images fall"
    assert strongest <= often + 0.02
    assert often <= once


def test_wrong_images_are_not_robust_and_places_decide_the_starts(
    test_set: tuple[Tensor, NDArray[np.int64]], standard: Normalized
) -> None:
    images, labels = test_set
    attack = descent("l2", 0.5, steps=4, restarts=1)
    robust = robust_accuracy(standard, images, labels, attack, 0)
    assert robust == robust_accuracy(standard, images.float() / 255, labels, attack, 0)
    halves = [slice(0, 50), slice(50, 100)]
    mislabeled = labels.copy()
    mislabeled[halves[1]] = (labels[halves[1]] + 1) % 10
    first = robust_accuracy(standard, images[halves[0]], labels[halves[0]], attack, 0)
    assert robust_accuracy(standard, images, mislabeled, attack, 0) == pytest.approx(first / 2)
    assert robust_accuracy(standard, images, (labels + 1) % 10, attack, 0) <= 0.02


def test_autoattack_repeats_itself_and_leaves_everything_as_it_was(
    test_set: tuple[Tensor, NDArray[np.int64]], standard: Normalized
) -> None:
    pytest.importorskip("pyautoattack", reason="the extra autoattack is not installed")
    images, labels = test_set[0][:20], test_set[1][:20]
    standard.zero_grad()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    found = [autoattack_accuracy(standard, images, labels, "l2", 2, 0) for _ in range(2)]
    assert found == [0, 0]  # nothing on these images survives so large a ball
    assert torch.equal(torch.get_rng_state(), state)
    assert all(weights.grad is None for weights in standard.parameters())
    assert all(weights.requires_grad for weights in standard.parameters())


@pytest.mark.slow
def test_a_report_has_autoattack_in_each_ball(tmp_path: Path) -> None:
    pytest.importorskip("pyautoattack", reason="the extra autoattack is not installed")
    small = ["recipes=[clean]", "seeds=[0]", "data.test_size=40", "target={model: mlp, width: 8, epochs: 6}"]
    attacked = "evaluation={autoattack: true, attack: {eps: 0.25, steps: 5}, further_eps: [0.5, 2]}"
    plan, store = build_plan(load_experiment("digits", [*small, attacked])), Store(str(tmp_path))
    compute_all(plan, store)
    (row,) = read_rows(store, plan.report.digest)
    assert list(row.autoattack_accuracies) == list(row.robust_accuracies) == ["L2 0.25", "L2 0.5", "L2 2"]
    small_ball, middle, large = row.autoattack_accuracies.values()
    assert row.test_accuracy >= small_ball >= middle > large
    for strongest, descent_only in zip(
        row.autoattack_accuracies.values(), row.robust_accuracies.values(), strict=True
    ):
        assert strongest <= descent_only
    assert "<th>AutoAttack at<br>L2 2</th>" in store.read(plan.report.digest, "report.html").decode()


def test_what_autoattack_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = torch.rand(2, 1, 8, 8), np.array([0, 1])
    model = build("mlp", width=4, image_shape=(1, 8, 8), classes=3)
    with pytest.raises(InputError, match="norm: 'l0' is not known to AutoAttack"):
        autoattack_accuracy(model, images, labels, "l0", 3, 0)
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(InputError, match=r"pip install -c constraints\.txt -e '\.\[autoattack\]'"):
        autoattack_accuracy(model, images, labels, "l2", 1, 0)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_autoattack_needs_four_classes(classes: int) -> None:
    pytest.importorskip("pyautoattack", reason="the extra autoattack is not installed")
    torch.manual_seed(0)
    model = build("mlp", width=4, image_shape=(1, 8, 8), classes=classes)
    images = torch.rand(5, 1, 8, 8)
    labels = predict(model, images)
    if classes == 4:
        assert autoattack_accuracy(model, images, labels, "linf", 0.5, 0) == 0
    else:
        with pytest.raises(InputError, match=f"classes: {classes} are fewer"):
            autoattack_accuracy(model, images, labels, "linf", 0.5, 0)
