"""Accuracy class by class, and whether the network is as often right as it is sure."""

import numpy as np
from numpy.typing import NDArray

_BINS = 15


def accuracy_by_class(
    predictions: NDArray[np.int64], labels: NDArray[np.int64], classes: int
) -> list[float | None]:
    """Return the share of each class's images that are predicted right, one entry a class.

    ``predictions`` and ``labels`` are class numbers (N,). A class without images has ``None``, which
    JSON can hold.
    """
    images = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[predictions == labels], minlength=classes)
    return [int(hits) / int(count) if count else None for hits, count in zip(right, images, strict=True)]


def expected_calibration_error(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Return the mean gap between confidence and accuracy over 15 equal bins of confidence, in [0, 1].

    ``probabilities`` are (N, classes), ``labels`` class numbers (N,), N at least one; a bin holds the
    confidences above its lower and up to its upper bound, and counts by its images (Guo et al. 2017,
    "On Calibration of Modern Neural Networks", section 2).
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    bins = np.digitize(confidence, np.arange(1, _BINS) / _BINS, right=True)
    # Of each bin: images * |accuracy - confidence| = |images that are right - sum of confidences|.
    gaps = np.abs(np.bincount(bins, weights=right - confidence))
    return float(gaps.sum() / len(labels))
