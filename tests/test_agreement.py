"""Agreement of a target model with its source model, against what their accuracies alone would give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from advfeat.evaluation import agreement

SEEDS, CLASSES, SHARES = st.integers(0, 2**31 - 1), st.integers(2, 12), st.floats(0, 1)


def predictor(
    rng: np.random.Generator, labels: NDArray[np.int64], classes: int, accuracy: float
) -> NDArray[np.int64]:
    """Be right with the given probability, on any image, and else choose a wrong class uniformly."""
    wrong = (labels + rng.integers(1, classes, len(labels))) % classes
    return np.where(rng.random(len(labels)) < accuracy, labels, wrong)


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, classes=CLASSES, of_source=SHARES, of_target=SHARES)
def test_independent_predictors_agree_by_chance(
    seed: int, classes: int, of_source: float, of_target: float
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, 5000)
    source, target = (predictor(rng, labels, classes, accuracy) for accuracy in (of_source, of_target))
    found = agreement(source, target, labels, classes)
    assert abs(found.overall - found.overall_by_chance) <= 6 * (0.25 / len(labels)) ** 0.5
    if found.on_errors is not None and found.on_errors_by_chance is not None:
        assert abs(found.on_errors - found.on_errors_by_chance) <= 6 * (0.25 / found.errors) ** 0.5


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, classes=CLASSES, count=st.integers(1, 60))
def test_agreement_is_bounded_by_the_accuracies(seed: int, classes: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    source, target, labels = rng.integers(0, classes, (3, count))
    found = agreement(source, target, labels, classes)
    p_source, p_target = np.mean(source == labels), np.mean(target == labels)
    assert p_source + p_target - 1 <= found.overall + 1e-12
    assert found.overall <= 1 - abs(p_source - p_target) + 1e-12
    assert 0 <= found.overall_by_chance <= 1
    assert found.errors == np.sum(source != labels)
    if found.errors:
        assert found.on_errors is not None
        assert found.on_errors_by_chance is not None
        assert 0 <= found.on_errors <= found.on_errors_by_chance * (classes - 1) + 1e-12
        assert found.on_errors_by_chance <= 1 / (classes - 1)
    assert agreement(target, source, labels, classes).overall == found.overall


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, classes=CLASSES, count=st.integers(1, 60))
def test_a_target_that_is_its_source_agrees_everywhere(seed: int, classes: int, count: int) -> None:
    source, labels = np.random.default_rng(seed).integers(0, classes, (2, count))
    found = agreement(source, source, labels, classes)
    assert found.overall == 1
    assert found.on_errors == (1 if found.errors else None)


def test_a_case_counted_by_hand() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    source = np.array([0, 0, 1, 1, 3, 3, 0, 1])
    target = np.array([0, 1, 1, 1, 3, 2, 0, 2])
    found = agreement(source, target, labels, 4)
    assert found.overall == 5 / 8
    assert found.overall_by_chance == pytest.approx(1 / 2 * 1 / 2 + 1 / 2 * 1 / 2 / 3)
    assert (found.errors, found.on_errors) == (4, 2 / 4)
    assert found.on_errors_by_chance == pytest.approx(3 / 4 / 3)


def test_a_target_that_copies_errors_is_told_from_one_that_shares_the_accuracy() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 3000)
    source, stranger = (predictor(rng, labels, 10, 0.8) for _ in range(2))
    copy = np.where(rng.random(len(labels)) < 0.5, source, stranger)
    apart, together = (agreement(source, target, labels, 10) for target in (stranger, copy))
    assert apart.on_errors is not None
    assert apart.on_errors_by_chance is not None
    assert together.on_errors is not None
    assert together.on_errors_by_chance is not None
    assert apart.on_errors < 2 * apart.on_errors_by_chance
    assert together.on_errors > 5 * together.on_errors_by_chance
    assert together.overall > together.overall_by_chance + 0.1


def test_without_errors_there_is_nothing_to_repeat() -> None:
    labels = np.array([0, 1, 2])
    found = agreement(labels, np.array([0, 1, 1]), labels, 3)
    assert (found.errors, found.on_errors, found.on_errors_by_chance) == (0, None, None)
    assert found.overall == pytest.approx(found.overall_by_chance)
    assert agreement(np.zeros(2, int), np.zeros(2, int), np.zeros(2, int), 1).overall_by_chance == 1
