"""How much of what a data set teaches is due to robust features (Goh 2019, "Robust Feature Leakage").

Source: distill.pub/2019/advex-bugs-discussion/response-2. As there, the features are linear, so that
their robustness is exact, and are those of a robust linear model.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from advfeat.errors import InputError

_MOST_ITERATIONS = 1000
_SMALLEST_LENGTH = 1e-6
"""Keeps the length of a difference of two weights differentiable where they are equal."""

Labels = NDArray[np.int64]
Pieces = Iterable[tuple[NDArray[np.floating], Labels]]
"""Images (n, …) with pixels in [0, 1] and their labels (n,), some rows after the other."""


def robust_linear_features(read: Callable[[], Pieces], classes: int, eps: float) -> NDArray[np.float64]:
    """Return linear features that stay useful under every L2 perturbation of length ``eps``.

    ``read`` begins a pass over images of D pixels each and their true classes, of which there may be
    ``classes``: hundreds of passes, and never more than a piece in memory. ``eps`` is in pixel units (0.25
    in Goh's post). The result is (k, D), one feature ``w . x`` a row, k <= ``classes``, each of variance
    one over the images.

    The candidates are the weights of a linear classifier, one for each class, that is robust at ``eps``:
    it minimizes the bound of the worst case's cross-entropy in which every other class gets the
    perturbation that favours it most. Kept is what is robustly useful (``robust_usefulness`` above
    gamma = 0) for at least one class against the rest, which is the post's specification 1. It too takes
    the ten features of a robust linear model, and does not say how that was trained. Raises
    ``InputError`` if no feature is left.
    """
    weights = _robust_linear_model(read, classes, eps)
    weights = weights[weights.any(1)]
    weights /= feature_values(weights, read())[0].std(0)[:, None]
    values, labels = feature_values(weights, read())
    useful = [robust_usefulness(weights, values, labels == label, eps) > 0 for label in np.unique(labels)]
    kept = weights[np.any(useful, axis=0)]
    if not len(kept):
        raise InputError("eps", eps, "leaves no linear feature useful", "choose a smaller radius")
    return kept


def feature_values(features: NDArray[np.float64], pieces: Pieces) -> tuple[NDArray[np.float64], Labels]:
    """Return the values (N, k) of ``features`` (k, D) on all images, and the images' labels (N,)."""
    found = [(_flat(images) @ features.T, labels) for images, labels in pieces]
    return np.concatenate([values for values, _ in found]), np.concatenate([labels for _, labels in found])


def robust_usefulness(
    features: NDArray[np.float64], values: NDArray[np.float64], members: NDArray[np.bool_], eps: float
) -> NDArray[np.float64]:
    """Return E[inf y f(x + delta)] over all L2 perturbations of length ``eps``, for each feature (k,).

    ``features`` are (k, D), ``values`` theirs on images (N, k); y is +1 for ``members`` (N,) and -1 for
    the rest. Of a linear feature it is E[y f(x)] - eps ||w|| (Ilyas et al. 2019, section 2, there for two
    classes). Members and rest weigh the same, so that the bar does not rise with the number of classes;
    the features' means then cancel.
    """
    usefulness = (values[members].mean(0) - values[~members].mean(0)) / 2
    lost: NDArray[np.float64] = eps * np.linalg.norm(features, axis=1)
    return np.asarray(usefulness - lost)


def leaked_predictions(
    train_values: NDArray[np.float64], train_labels: Labels, test_values: NDArray[np.float64]
) -> Labels:
    """Return what logistic regression that sees robust features alone takes the test images for, (M,).

    It sees the features' values (N, k) on the images that it is trained on, under ``train_labels`` (N,),
    and (M, k) on those that it is tested on: with the images and labels of D_rand or D_det and clean test
    images, what it gets right above chance is due to robust features. Published, for CIFAR-10: 23.5 %
    for D_rand (of 88 %), 6.81 % for D_det (of 44 %) (Goh 2019).
    """
    classifier = LogisticRegression(max_iter=_MOST_ITERATIONS)
    classifier.fit(train_values, train_labels)
    return np.asarray(classifier.predict(test_values), np.int64)


def _robust_linear_model(read: Callable[[], Pieces], classes: int, eps: float) -> NDArray[np.float64]:
    """Return the weights (classes, D) that minimize the worst case's cross-entropy, a convex problem."""
    mean, count = _mean(read())
    shape = classes, 1 + len(mean)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = torch.from_numpy(flat).view(shape).requires_grad_()
        bias, weights = parameters[:, 0], parameters[:, 1:]
        total, slope = 0.0, np.zeros(shape)
        for images, labels in read():
            inputs = torch.from_numpy(images.reshape(len(images), -1) - mean)
            aims = torch.from_numpy(labels)
            squares = (weights[:, None] - weights).square().sum(2)
            gained = eps * (squares + _SMALLEST_LENGTH**2).sqrt()
            worst = F.cross_entropy(inputs @ weights.T + bias + gained[aims], aims) * (len(aims) / count)
            (gradient,) = torch.autograd.grad(worst, parameters)
            total, slope = total + worst.item(), slope + gradient.numpy()
        return total, slope.ravel()

    options = {"maxiter": _MOST_ITERATIONS}
    found = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x.reshape(shape)[:, 1:])


def _mean(pieces: Pieces) -> tuple[NDArray[np.float64], int]:
    """Return the mean image (D,) and the number of images."""
    total, count = np.zeros(()), 0
    for images, labels in pieces:
        total, count = total + _flat(images).sum(0), count + len(labels)
    return total / count, count


def _flat(images: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(images, np.float64).reshape(len(images), -1)
