"""How much of what a data set teaches is due to robust features (Goh 2019, "Robust Feature Leakage").

Source: distill.pub/2019/advex-bugs-discussion/response-2. As there, the features are linear, so that
their robustness is exact, and are those of a robust linear model.
"""

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

Pixels = NDArray[np.floating]
Labels = NDArray[np.int64]


def robust_linear_features(images: Pixels, labels: Labels, classes: int, eps: float) -> NDArray[np.float64]:
    """Return linear features that stay useful under every L2 perturbation of length ``eps``.

    ``images`` are (N, …) with pixels in [0, 1], D of them each, ``labels`` their true classes (N,), of
    which there may be ``classes``; ``eps`` is in pixel units (0.25 in Goh's post). The result is (k, D),
    one feature ``w . x`` a row, k <= ``classes``, each of variance one over ``images``.

    The candidates are the weights of a linear classifier, one for each class, that is robust at ``eps``:
    it minimizes the bound of the worst case's cross-entropy in which every other class gets the
    perturbation that favours it most. Kept is what is robustly useful (``robust_usefulness`` above
    gamma = 0) for at least one class against the rest, which is the post's specification 1. It too takes
    the ten features of a robust linear model, and does not say how that was trained. Raises
    ``InputError`` if no feature is left.
    """
    pixels = _flat(images)
    weights = _robust_linear_model(pixels, labels, classes, eps)
    weights = weights[weights.any(1)]
    weights /= (pixels @ weights.T).std(0)[:, None]
    useful = [robust_usefulness(weights, pixels, labels == label, eps) > 0 for label in np.unique(labels)]
    kept = weights[np.any(useful, axis=0)]
    if not len(kept):
        raise InputError("eps", eps, "leaves no linear feature useful", "choose a smaller radius")
    return kept


def robust_usefulness(
    features: NDArray[np.float64], images: Pixels, members: NDArray[np.bool_], eps: float
) -> NDArray[np.float64]:
    """Return E[inf y f(x + delta)] over all L2 perturbations of length ``eps``, for each feature (k,).

    ``features`` are (k, D), ``images`` (N, …) in [0, 1]; y is +1 for ``members`` (N,) and -1 for the
    rest. Of a linear feature it is E[y f(x)] - eps ||w|| (Ilyas et al. 2019, section 2, there for two
    classes). Members and rest weigh the same, so that the bar does not rise with the number of classes;
    the features' means then cancel.
    """
    values = _flat(images) @ features.T
    usefulness = (values[members].mean(0) - values[~members].mean(0)) / 2
    lost: NDArray[np.float64] = eps * np.linalg.norm(features, axis=1)
    return np.asarray(usefulness - lost)


def leaked_predictions(
    features: NDArray[np.float64], train_images: Pixels, train_labels: Labels, test_images: Pixels
) -> Labels:
    """Return what logistic regression that sees ``features`` (k, D) alone takes ``test_images`` for, (M,).

    It is trained on ``train_images`` (N, …) under ``train_labels`` (N,): with those of D_rand or D_det
    and clean test images, what it gets right above chance is due to robust features. Published, for
    CIFAR-10: 23.5 % for D_rand (of 88 %), 6.81 % for D_det (of 44 %) (Goh 2019).
    """
    classifier = LogisticRegression(max_iter=_MOST_ITERATIONS)
    classifier.fit(_flat(train_images) @ features.T, train_labels)
    return np.asarray(classifier.predict(_flat(test_images) @ features.T), np.int64)


def _robust_linear_model(
    pixels: NDArray[np.float64], labels: Labels, classes: int, eps: float
) -> NDArray[np.float64]:
    """Return the weights (classes, D) that minimize the worst case's cross-entropy, a convex problem."""
    inputs = torch.from_numpy(pixels - pixels.mean(0))
    aims = torch.from_numpy(labels)
    shape = classes, 1 + pixels.shape[1]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = torch.from_numpy(flat).view(shape).requires_grad_()
        bias, weights = parameters[:, 0], parameters[:, 1:]
        squares = (weights[:, None] - weights).square().sum(2)
        gained = eps * (squares + _SMALLEST_LENGTH**2).sqrt()
        worst = F.cross_entropy(inputs @ weights.T + bias + gained[aims], aims)
        (gradient,) = torch.autograd.grad(worst, parameters)
        return worst.item(), gradient.numpy().ravel()

    options = {"maxiter": _MOST_ITERATIONS}
    found = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x.reshape(shape)[:, 1:])


def _flat(images: Pixels) -> NDArray[np.float64]:
    return np.asarray(images, np.float64).reshape(len(images), -1)
