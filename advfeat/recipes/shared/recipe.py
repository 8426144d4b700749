"""What a recipe is: which label each image gets, how the images are made, and what it is said to teach."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from advfeat.progress import Progress
from advfeat.spec import Spec, TargetedAttack

if TYPE_CHECKING:
    from torch import Tensor

    from advfeat.models import Normalized

Labels = NDArray[np.int64]
DROPPED = -1
"""The label of an image that the data set leaves out."""

SourceRole = Literal["source", "weak_source", "robust_source", "standard_source"]

OwnSettings = TypeVar("OwnSettings", bound=Spec)
_NO_SETTINGS: Any = Spec


@dataclass(frozen=True)
class Given(Generic[OwnSettings]):
    """What a recipe may look at when it labels the images."""

    labels: Labels
    """The images' own labels; those of the other domain where the images are of one."""
    classes: int
    rng: np.random.Generator
    settings: OwnSettings
    probabilities: Callable[[], NDArray[np.float32]]
    """Returns the source model's probabilities for all images, (N, classes)."""

    def predictions(self) -> Labels:
        """Return the source model's predictions for all images."""
        return np.asarray(self.probabilities().argmax(1), np.int64)


@dataclass(frozen=True)
class Making(Generic[OwnSettings]):
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
    settings: OwnSettings
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

    @property
    def sentence(self) -> str:
        """The figure with its setting and its source."""
        accuracy = f"{100 * self.test_accuracy:.4g} %"
        return f"Published: {accuracy} on clean test images ({self.setting}; {self.source})."

    def differs(self, experiment: Spec) -> tuple[str, ...]:
        """Name the fields of that setting in which an experiment differs from it."""
        return tuple(
            name for name, value in self.settings.items() if not _same(_value(experiment, name), value)
        )


def _value(experiment: Spec, name: str) -> Any:
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
    needs_success: bool = True
    """Whether it is about images that fool the source model: then it is not tested where few do."""


@dataclass(frozen=True)
class Axis:
    """An axis of a recipe's grids: a list of values for one field of an experiment."""

    name: str
    field: str
    """The field that each value is given to, by its dotted name; its type and bounds are the axis's."""
    description: str
    values: Any = None
    """The type of a value, where it is not that of the field."""
    required: bool = False
    """Whether the axis must have a value, as the field has no default that can be used."""


def plain_name(identity: str) -> str:
    """Return the name of a recipe by what digests call it, or by its file, whether it is at hand or not."""
    return PurePath(identity.partition("@")[0]).name.removesuffix(".py")


def _nothing_is_missing(_: Any) -> str | None:
    return None


def _passes_of_the_attack(experiment: Any) -> int:
    passes: int = experiment.attack.passes
    return passes


def _no_words(_: Any) -> str:
    return ""


@dataclass(frozen=True)
class Recipe(Generic[OwnSettings]):
    """One way to turn (images, labels, source model) into a training set."""

    name: str
    """That of its file, or of its entry point."""
    summary: str
    """What a target model learns from, in a line that fits behind "learn from"."""
    claim: Claim
    relabel: Callable[[Given[OwnSettings]], Labels]
    """Returns the label of each image, or ``DROPPED``."""
    paper: str = ""
    """Where it was proposed, such as "Ilyas et al. 2019, section 3.2"."""
    published: Published | None = None
    """What was published of it; of several figures the best known."""
    also_published: tuple[Published, ...] = ()
    """Figures of other settings."""
    control: str | None = None
    """The recipe that its claim is held against; unset where there is none, or where it computes its own."""
    source: SourceRole | None = None
    settings: type[OwnSettings] = _NO_SETTINGS
    """Its own settings: fields of an experiment that matter to it and to those that share the class.

    Each enters the digest of the data set, unless ``beyond_dataset`` names it.
    """
    beyond_dataset: tuple[str, ...] = ()
    """Own settings that the data set does not depend on: its inputs hold them, or what is made of it."""
    in_words: Callable[[OwnSettings], str] = _no_words
    """Writes its own settings in the line of a row; nothing where there is nothing to say."""
    missing: Callable[[Any], str | None] = _nothing_is_missing
    """Says what an experiment does not have, or must not have, for this recipe."""
    axes: tuple[Axis, ...] = ()
    """Its own axes, besides those of source model, attack and target model."""
    attacks: bool = False
    """Whether its images are perturbed within the ball of the experiment's attack."""
    sample: Callable[[Given[OwnSettings], Labels], NDArray[np.int64]] | None = None
    """Returns the rows that are used, ascending, some of them perhaps repeatedly; all once if unset."""
    make: Callable[[Making[OwnSettings]], "Tensor"] | None = None
    """Returns the images of some rows; the originals if unset."""
    passes: Callable[[Any], int] = _passes_of_the_attack
    """How often an image goes through networks when it is made, in an experiment."""
    originals: Literal["images", "other domain", "noise", "unknown"] = "images"
    """What the images are made from; unknown of a data set that is finished already."""
    drawn: Callable[[OwnSettings, tuple[int, ...], np.random.Generator], NDArray[np.float32]] | None = None
    """Draws the original of a row, (C, H, W) in [0, 1], where originals are noise."""
    guarded: bool = False
    """Whether further source models take part, which the examples must not transfer to."""
    soft_labels: bool = False
    """Whether images carry the source model's probabilities besides their labels."""
    learner: Literal["network", "robust linear features", "network in the plane"] = "network"
    labels_of: str | None = None
    """The recipe whose random labels it has, row by row; its own if unset."""
    dataset_of: str | None = None
    """The recipe whose data set it learns from; its own if unset."""
    transfers: bool = False
    """Whether it also measures how many of its examples fool a network like the target model."""
    own: str = ""
    """Where it is the user's own, its name and its file's content: ``mirrored.py@0123456789abcdef``."""
    page: str = ""
    """Its page in ``docs/recipes/``, where it shares one; that of its name if unset."""

    @property
    def identity(self) -> str:
        """What an experiment and a digest call it: its name, which has its content where it is the user's."""
        return self.own or self.name

    @property
    def dataset_settings(self) -> tuple[str, ...]:
        """The fields of an experiment that its data set depends on, besides images, models and seed."""
        own = (name for name in self.settings.model_fields if name not in self.beyond_dataset)
        return (*(("attack",) if self.attacks else ()), *own)

    @property
    def description(self) -> str:
        """What it is, what is said of it, and what was published of it: a sentence each."""
        where = f" ({self.paper})" if self.paper else ""
        text = f"Learn from {self.summary}{where}. Claim: it {self.purpose}; {self.claim.because}."
        return f"{text} {'No figure was published.' if self.published is None else self.published.sentence}"

    @property
    def purpose(self) -> str:
        """What it is for, in a word or two."""
        return "teaches" if self.claim.teaches else "does not teach"

    def published_for(self, experiment: Spec) -> Published | None:
        """Return the figure of the experiment's data, if there is one, and of those what fits it best."""
        if self.published is None:
            return None

        def likeness(figure: Published) -> tuple[bool, int]:
            differences = figure.differs(experiment)
            return "data.source" not in differences, len(figure.settings) - len(differences)

        return max((self.published, *self.also_published), key=likeness)
