"""What a recipe is: which label each image gets, and whether it is perturbed towards it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from advfeat.spec import RecipeName

Labels = NDArray[np.int64]
DROPPED = -1
"""The label of an image that the data set leaves out."""


@dataclass(frozen=True)
class Given:
    """What a recipe may look at when it labels the training images."""

    labels: Labels
    classes: int
    rng: np.random.Generator
    predict: Callable[[], Labels]
    """Returns the source model's predictions for all training images."""


@dataclass(frozen=True)
class Published:
    """A published result: test accuracy as a fraction, its setting and its source.

    Its data set and network differ from a run's unless they say so.
    """

    test_accuracy: float
    setting: str
    source: str


@dataclass(frozen=True)
class Recipe:
    """One way to turn (images, labels, source model) into a training set of errors."""

    name: RecipeName
    summary: str
    source: Literal["source", "weak_source"] | None
    perturbed: bool
    published: Published | None
    relabel: Callable[[Given], Labels]
    """Returns the label of each training image, or ``DROPPED``."""
