"""What a recipe is: which label each image gets, how the images are made, and what it is said to teach."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from advfeat.progress import Progress
from advfeat.spec import Experiment, RecipeName, RecipeSettings, TargetedAttack

if TYPE_CHECKING:
    from torch import Tensor

    from advfeat.models import Normalized

Labels = NDArray[np.int64]
DROPPED = -1
"""The label of an image that the data set leaves out."""

SourceRole = Literal["source", "weak_source", "robust_source", "standard_source"]


@dataclass(frozen=True)
class Given:
    """What a recipe may look at when it labels the images."""

    labels: Labels
    """The images' own labels; those of the other domain where the images are of one."""
    classes: int
    rng: np.random.Generator
    settings: RecipeSettings
    probabilities: Callable[[], NDArray[np.float32]]
    """Returns the source model's probabilities for all images, (N, classes)."""

    def predictions(self) -> Labels:
        """Return the source model's predictions for all images."""
        return np.asarray(self.probabilities().argmax(1), np.int64)


@dataclass(frozen=True)
class Making:
    """What a recipe may look at when it makes the images of some rows from their originals.

    Images are float32 (n, C, H, W) in [0, 1]; ``rows`` are their places among all ``count`` images.
    """

    originals: "Tensor"
    labels: "Tensor"
    """The labels that they will carry, int64 (n,)."""
    own_labels: "Tensor"
    rows: Sequence[int]
    count: int
    originals_of: Callable[[Sequence[int]], "Tensor"]
    source_model: "Normalized"
    guards: Sequence["Normalized"]
    attack: TargetedAttack | None
    settings: RecipeSettings
    seed: int
    progress: Progress | None


@dataclass(frozen=True)
class Published:
    """A published result: test accuracy as a fraction, its setting in words, and its source."""

    test_accuracy: float
    setting: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What is known of that setting, as fields of an experiment by their dotted names."""
    robust_accuracy: float | None = None
    """Test accuracy under attack, as a fraction, where it was published too."""
    robust_setting: str = ""
    """Under which attack."""

    def differs(self, experiment: Experiment) -> tuple[str, ...]:
        """Name the fields of that setting in which an experiment differs from it."""
        return tuple(
            name for name, value in self.settings.items() if not _same(_value(experiment, name), value)
        )


def _value(experiment: Experiment, name: str) -> Any:
    """Return the value of a field, of a located data set its kind; None where a part of its name is unset."""
    value: Any = experiment
    for part in name.split("."):
        value = None if value is None else getattr(value, part)
    return value.partition(":")[0] if isinstance(value, str) else value


def _same(found: Any, published: Any) -> bool:
    """Compare values; 8/255 may have been typed as 0.0314."""
    if isinstance(found, float) and isinstance(published, float):
        return isclose(found, published, rel_tol=1e-3)
    return bool(found == published)


@dataclass(frozen=True)
class Claim:
    """What is said of a recipe: that it teaches the classes, or that it does not."""

    teaches: bool
    because: str
    robust: bool | None = None
    """Whether what it teaches is said to withstand an attack; ``None`` where nothing is said of that."""


@dataclass(frozen=True)
class Recipe:
    """One way to turn (images, labels, source model) into a training set."""

    name: RecipeName
    summary: str
    claim: Claim
    published: Published | None
    """What was published of it; of several figures the best known."""
    source: SourceRole | None
    relabel: Callable[[Given], Labels]
    """Returns the label of each image, or ``DROPPED``."""
    sample: Callable[[Given, Labels], NDArray[np.int64]] | None = None
    """Returns the rows that are used, ascending, some of them perhaps repeatedly; all once if unset."""
    make: Callable[[Making], "Tensor"] | None = None
    """Returns the images of some rows; the originals if unset."""
    settings: tuple[str, ...] = ()
    """The settings that matter to it: ``attack``, and fields of ``RecipeSettings``."""
    originals: Literal["images", "other domain", "noise", "unknown"] = "images"
    """What the images are made from; unknown of a data set that is finished already."""
    guarded: bool = False
    """Whether further source models take part, which the examples must not transfer to."""
    soft_labels: bool = False
    """Whether images carry the source model's probabilities besides their labels."""
    learner: Literal["network", "robust linear features", "network in the plane"] = "network"
    dataset_of: RecipeName | None = None
    """The recipe whose data set it learns from; its own if unset."""
    transfers: bool = False
    """Whether it also measures how many of its examples fool a network like the target model."""
    control: RecipeName | None = None
    """The recipe that its claim is held against; unset where there is none, or where it computes its own."""
    also_published: tuple[Published, ...] = ()
    """Figures of other settings."""

    @property
    def attacks(self) -> bool:
        """Whether its images are adversarial examples."""
        return "attack" in self.settings

    def published_for(self, experiment: Experiment) -> Published | None:
        """Return the figure of the experiment's data, if there is one, and of those what fits it best."""
        if self.published is None:
            return None

        def likeness(figure: Published) -> tuple[bool, int]:
            differences = figure.differs(experiment)
            return "data.source" not in differences, len(figure.settings) - len(differences)

        return max((self.published, *self.also_published), key=likeness)
