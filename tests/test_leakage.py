"""Robust linear features: provably robust, useful under true labels, useless under shuffled ones."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from advfeat import data
from advfeat.attacks import perturb
from advfeat.data.images import LabelledImages
from advfeat.errors import InputError
from advfeat.methods.leakage import (
    Pieces,
    feature_values,
    leaked_predictions,
    robust_linear_features,
    robust_usefulness,
)
from advfeat.models import as_pixels
from advfeat.planning import build_plan, load_experiment
from advfeat.storage import Store
from advfeat.training import TrainingSet, fit
from tests.inline import compute

EPS = 0.25


@pytest.fixture(scope="module")
def digits() -> data.ImageData:
    return data.load(load_experiment("digits").data)


def pixels(images: LabelledImages) -> NDArray[np.float32]:
    return as_pixels(torch.from_numpy(images.images)).numpy()


def passes(images: LabelledImages, size: int | None = None) -> Callable[[], Pieces]:
    """Return what reads the images again and again, ``size`` of them at a time."""
    starts = range(0, len(images), size or len(images))
    every = [np.arange(start, min(start + starts.step, len(images))) for start in starts]
    return lambda: [(pixels(images.rows(rows)), images.labels[rows]) for rows in every]


@pytest.fixture(scope="module")
def features(digits: data.ImageData) -> NDArray[np.float64]:
    torch.set_num_threads(1)  # as the stage does
    return robust_linear_features(passes(digits.train), 10, EPS)


def under_attack(
    feature: NDArray[np.float64],
    images: NDArray[np.float64],
    members: NDArray[np.bool_],
    perturbations: NDArray[np.float64],
) -> float:
    """Measure the usefulness of a feature on perturbed images, members and rest weighing the same."""
    agreement = np.where(members, 1.0, -1.0) * ((images + perturbations) @ feature)
    return float((agreement[members].mean() + agreement[~members].mean()) / 2)


@pytest.mark.parametrize("eps", [0.0, EPS, 1.0])
def test_usefulness_is_that_under_the_worst_perturbations(
    digits: data.ImageData, features: NDArray[np.float64], eps: float
) -> None:
    images, rng = pixels(digits.train).reshape(-1, 64).astype(float), np.random.default_rng(0)
    for label in range(10):
        members = digits.train.labels == label
        signs = np.where(members, 1.0, -1.0)[:, None]
        stated = robust_usefulness(features, images @ features.T, members, eps)
        for feature, usefulness in zip(features, stated, strict=True):
            worst = -eps * signs * feature / np.linalg.norm(feature)
            assert under_attack(feature, images, members, worst) == pytest.approx(usefulness, abs=1e-9)
            for spread in (0.0, 0.1, 1.0, 100.0):  # from the worst direction to any
                tries = worst + spread * eps * rng.normal(size=images.shape)
                tries *= eps / np.linalg.norm(tries, axis=1, keepdims=True).clip(1e-12)
                assert under_attack(feature, images, members, tries) >= usefulness - 1e-9


def test_every_feature_is_robustly_useful_for_a_class(
    digits: data.ImageData, features: NDArray[np.float64]
) -> None:
    values, labels = feature_values(features, passes(digits.train)())
    assert features.shape[1] == 64
    assert 5 <= len(features) <= 10
    assert np.allclose(values.std(0), 1)
    usefulness = [robust_usefulness(features, values, labels == label, EPS) for label in range(10)]
    assert (np.max(usefulness, axis=0) > 0).all()
    again = [robust_usefulness(features, values, labels == label, 0.0) for label in range(10)]
    lost = EPS * np.linalg.norm(features, axis=1)
    assert np.allclose(np.subtract(again, usefulness), lost)


def test_larger_radii_leave_fewer_features(digits: data.ImageData, features: NDArray[np.float64]) -> None:
    assert 0 < len(robust_linear_features(passes(digits.train), 10, 0.75)) < len(features)
    with pytest.raises(InputError, match="leaves no linear feature useful"):
        robust_linear_features(passes(digits.train), 10, 2.0)


def test_pieces_give_the_features_of_the_whole(digits: data.ImageData) -> None:
    whole, in_pieces = (robust_linear_features(passes(digits.train, size), 10, 0.75) for size in (None, 100))
    assert np.allclose(in_pieces, whole, rtol=1e-9, atol=0)


@pytest.mark.slow
def test_the_stage_holds_little_of_its_images(
    tmp_path: Path, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("advfeat.files.parts.PART_BYTES", 128 << 10)
    monkeypatch.setattr(
        "advfeat.storage.readable.MOST_MANIFEST_BYTES", 64 << 10
    )  # so much is set aside for one
    rng = np.random.default_rng(0)
    labels, classes = rng.integers(0, 4, 2000), rng.uniform(60, 195, (4, 3, 16, 16))
    images = (classes[labels] + rng.normal(0, 20, (2000, 3, 16, 16))).clip(0, 255).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    given = f"data={{source: 'numpy:{tmp_path / 'images.npz'}'}}"
    small = ("recipes=[leakage]", "seeds=[0]", "attack.steps=1", "source={width: 4, epochs: 1}")
    *made_before, leakage, _ = build_plan(load_experiment("digits", (given, *small))).stages
    for stage in made_before:
        compute(stage, local_store)
    tracemalloc.start()
    found = compute(leakage, local_store)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * images.size / 4  # of one copy as float64
    assert found.metrics["features"] == 4


def accuracy(
    features: NDArray[np.float64],
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    test_images: NDArray[np.float32],
    test_labels: NDArray[np.int64],
) -> float:
    learned = feature_values(features, [(images, labels)])
    values, _ = feature_values(features, [(test_images, test_labels)])
    return float(np.mean(leaked_predictions(*learned, values) == test_labels))


def test_true_labels_are_learned_and_shuffled_ones_are_not(
    digits: data.ImageData, features: NDArray[np.float64]
) -> None:
    train, test = pixels(digits.train), pixels(digits.test)
    assert accuracy(features, train, digits.train.labels, test, digits.test.labels) > 0.9
    shuffled = [
        accuracy(
            features,
            train,
            np.random.default_rng(seed).permutation(digits.train.labels),
            test,
            digits.test.labels,
        )
        for seed in range(10)
    ]
    assert 0.05 < np.mean(shuffled) < 0.15


@pytest.mark.slow
def test_robust_features_leak_into_random_labels_not_into_the_next_class(
    digits: data.ImageData, features: NDArray[np.float64]
) -> None:
    """Of small perturbations: at the preset's L2 1.5 the next class leaks as well (about 40 %)."""
    experiment = load_experiment("digits")
    images, labels = torch.from_numpy(digits.train.images), torch.from_numpy(digits.train.labels)
    source = fit(TrainingSet.in_memory(images, labels), experiment.source, classes=10, seed=0)
    targets = {
        "D_rand": np.random.default_rng(0).integers(0, 10, len(labels)),
        "D_det": (digits.train.labels + 1) % 10,
    }
    attack, leaked = experiment.attack.model_copy(update={"eps": 0.5}), {}
    for name, aims in targets.items():
        adversarial = perturb(source, as_pixels(images), torch.from_numpy(aims), attack).numpy()
        leaked[name] = accuracy(features, adversarial, aims, pixels(digits.test), digits.test.labels)
    print(leaked)
    assert leaked["D_rand"] > 0.5
    assert leaked["D_det"] < 0.1
