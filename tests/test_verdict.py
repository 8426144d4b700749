"""Verdicts: a claim against an interval, with chance at a tenth."""

import pytest

from advfeat.verdict import Verdict, verdict


@pytest.mark.parametrize(
    ("teaches", "low", "high", "expected"),
    [
        (True, 0.11, 0.50, "as claimed"),
        (True, 0.09, 0.50, "open"),
        (True, 0.02, 0.09, "contrary"),
        (False, 0.05, 0.15, "as claimed"),
        (False, 0.01, 0.04, "as claimed"),  # as of Nakkiran's bugs, 2.8 %: the visible image misleads
        (False, 0.05, 0.25, "open"),
        (False, 0.11, 0.15, "contrary"),
    ],
)
def test_verdict(teaches: bool, low: float, high: float, expected: Verdict) -> None:
    assert verdict(teaches, (low, high), 0.1) == expected
