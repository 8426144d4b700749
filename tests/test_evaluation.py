"""Predictions, accuracy by class, calibration and similarity of representations."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from advfeat import models
from advfeat.evaluation import (
    accuracy_by_class,
    expected_calibration_error,
    linear_cka,
    predict,
    probabilities,
    representation,
)
from advfeat.spec import ModelName

SEEDS, SIDES = st.integers(0, 2**31 - 1), st.integers(1, 12)


def build(name: ModelName) -> models.Normalized:
    torch.manual_seed(0)
    return models.build(name, width=8, image_shape=(1, 28, 28), classes=10)


def test_predictions_are_the_most_probable_classes_in_any_batch() -> None:
    model, images = build("cnn"), torch.randint(0, 256, (700, 1, 28, 28), dtype=torch.uint8)
    found = probabilities(model, images)
    assert found.dtype == np.float32
    assert found.shape == (700, 10)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-6)
    assert (found.argmax(axis=1) == predict(model, images)).all()
    with torch.no_grad():
        expected = model(images.float() / 255).softmax(1)
    torch.testing.assert_close(torch.from_numpy(found), expected)
    assert np.allclose(probabilities(model, images.float() / 255), found)
    assert np.allclose(np.concatenate([probabilities(model, part) for part in images.split(300)]), found)


def test_no_images_have_no_predictions() -> None:
    none = torch.empty(0, 1, 28, 28)
    assert predict(build("cnn"), none).shape == (0,)
    assert probabilities(build("cnn"), none).shape == (0, 10)


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, classes=st.integers(1, 8), count=st.integers(0, 60))
def test_accuracy_by_class_is_what_counting_gives(seed: int, classes: int, count: int) -> None:
    predictions, labels = np.random.default_rng(seed).integers(0, classes, (2, count))
    found = accuracy_by_class(predictions, labels, classes)
    assert len(found) == classes
    for number, accuracy in enumerate(found):
        right = [prediction == number for prediction in predictions[labels == number]]
        assert accuracy == (sum(right) / len(right) if right else None)


def naive_calibration_error(found: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    error = 0.0
    for number in range(15):
        inside = [
            (max(row), int(np.argmax(row)) == label)
            for row, label in zip(found, labels, strict=True)
            if number / 15 < max(row) <= (number + 1) / 15
        ]
        if inside:
            confidence, accuracy = (sum(values) / len(inside) for values in zip(*inside, strict=True))
            error += len(inside) / len(labels) * abs(accuracy - confidence)
    return error


@settings(max_examples=100, deadline=None)
@given(
    seed=SEEDS,
    classes=st.integers(2, 12),
    count=st.integers(1, 200),
    temperature=st.sampled_from([0.1, 1, 5]),
)
def test_calibration_error_is_what_a_loop_over_bins_gives(
    seed: int, classes: int, count: int, temperature: float
) -> None:
    rng = np.random.default_rng(seed)
    found = np.exp(rng.normal(size=(count, classes)) / temperature)
    found /= found.sum(axis=1, keepdims=True)
    labels = rng.integers(0, classes, count)
    error = expected_calibration_error(found, labels)
    assert error == pytest.approx(naive_calibration_error(found, labels), abs=1e-12)
    assert 0 <= error <= 1
    order = rng.permutation(count)
    assert expected_calibration_error(found[order], labels[order]) == pytest.approx(error, abs=1e-12)


@pytest.mark.parametrize(
    ("confidence", "right", "error"),
    [
        ([1, 1], [1, 1], 0),
        ([1, 1], [0, 0], 1),
        ([0.75, 0.75, 0.75, 0.75], [1, 1, 1, 0], 0),
        ([0.6, 0.55], [1, 0], 0.075),  # 0.6 = 9 / 15 is the upper bound of the bin of 0.55
        ([0.61, 0.55], [1, 0], 0.47),
    ],
)
def test_calibration_errors_known_by_hand(confidence: list[float], right: list[int], error: float) -> None:
    found = np.array([[p, 1 - p] for p in confidence])
    assert expected_calibration_error(found, 1 - np.array(right)) == pytest.approx(error)


def cka_of_images(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Compute HSIC from matrices of images, as Kornblith et al. define it."""
    count = len(first)
    centering = np.eye(count) - np.ones((count, count)) / count

    def hsic(k: NDArray[np.float64], m: NDArray[np.float64]) -> float:
        return float(np.trace(k @ centering @ m @ centering))

    k, m = first @ first.T, second @ second.T
    return float(hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m)))


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, count=st.integers(3, 40), first=SIDES, second=SIDES, shared=st.floats(0, 1))
def test_cka_is_what_matrices_of_images_give(
    seed: int, count: int, first: int, second: int, shared: float
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, first))
    y = shared * x @ rng.normal(size=(first, second)) + (1 - shared) * rng.normal(size=(count, second))
    assert linear_cka(x, y) == pytest.approx(cka_of_images(x, y), abs=1e-9)
    assert linear_cka(y, x) == pytest.approx(linear_cka(x, y), abs=1e-12)
    assert 0 <= linear_cka(x, y) <= 1


@settings(max_examples=100, deadline=None)
@given(
    seed=SEEDS,
    count=st.integers(3, 40),
    side=SIDES,
    scale=st.floats(1e-100, 1e100),
    shift=st.floats(-100, 100),
)
def test_neither_rotation_nor_scale_nor_shift_changes_cka(
    seed: int, count: int, side: int, scale: float, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(count, side)), rng.normal(size=(count, 5))
    rotation, _ = np.linalg.qr(rng.normal(size=(side, side)))
    moved = scale * (x @ rotation + shift)
    assert linear_cka(moved, y) == pytest.approx(linear_cka(x, y), abs=1e-9)
    assert linear_cka(x, moved) == pytest.approx(1)
    assert linear_cka(x, x) == pytest.approx(1)


def test_unrelated_representations_are_not_alike() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 5000, 16))
    assert linear_cka(x, y) < 0.02
    assert linear_cka(x, x + y) == pytest.approx(0.5, abs=0.02)


def test_a_representation_that_never_changes_is_like_none() -> None:
    constant = np.full((7, 3), 0.1, np.float32)
    assert linear_cka(constant, np.random.default_rng(0).normal(size=(7, 3))) == 0
    assert linear_cka(constant, constant) == 0


@pytest.mark.parametrize("name", get_args(ModelName))
def test_the_representation_is_what_the_last_layer_reads(name: ModelName) -> None:
    model, images = build(name), torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    found = representation(model, images)
    assert found.dtype == np.float32
    assert found.shape == (3, last.in_features)
    scale = 0.125 if name == "resnet9" else 1
    with torch.no_grad():
        expected = scale * last(torch.from_numpy(found)), model(images.float() / 255)
    torch.testing.assert_close(*expected)


def test_representations_of_many_images_come_in_order_and_leave_no_trace() -> None:
    model, images = build("cnn"), torch.rand(600, 1, 28, 28)
    found = representation(model, images)
    assert np.allclose(np.concatenate([representation(model, part) for part in images.split(250)]), found)
    assert not any(layer._forward_pre_hooks for layer in model.modules())
