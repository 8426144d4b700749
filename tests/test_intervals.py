"""Intervals against scipy's own, and how often they hold the truth."""

import numpy as np
import pytest
from scipy import stats

from advfeat.report.intervals import mean_interval, wilson_interval


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (500, 539), (539, 539)])
def test_wilson_agrees_with_scipy(successes: int, trials: int) -> None:
    theirs = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((theirs.low, theirs.high))


def test_the_mean_interval_agrees_with_scipy() -> None:
    values = [0.91, 0.94, 0.9, 0.96]
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((theirs.low, theirs.high))


def test_the_mean_interval_holds_the_mean_95_times_of_100() -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.05, (4000, 3))
    held = [low <= 0.5 <= high for low, high in map(mean_interval, draws.tolist())]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)
