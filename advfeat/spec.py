"""What a user may ask for: frozen pydantic models with bounds and descriptions on every field.

Pixels are in [0, 1] throughout; eps and step sizes are in those units.
"""

import difflib
import re
from functools import cache
from itertools import combinations
from math import isclose
from operator import not_
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from advfeat.numerals import read_numbers

Norm = Literal["l2", "linf", "l1", "l0"]
LOSSES = ("cross-entropy", "margin", "logit")
Precision = Literal["auto", "bf16", "fp32"]
ModelName = Literal[
    "mlp",
    "cnn",
    "resnet9",
    "resnet18",
    "resnet50",
    "wide_resnet28_10",
    "vgg16_bn",
    "inception",
    "densenet",
]
OWN_FUNCTION = re.compile(
    r"(?P<place>[^\0]+\.py|[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<function>[^\W\d]\w*)(?:@(?P<version>[0-9a-f]{16}))?"
)
"""A function of the user's own: ``FILE.py:FUNCTION`` or ``package.module:function``."""

LIBRARY_NETWORK = re.compile(r"(?P<library>torchvision|timm):(?P<name>[\w.]+)(?:@(?P<version>[\w.+!-]+))?")
Augmentation = Literal["none", "flip-crop"]
Schedule = Literal["one-cycle", "triangular"]
StepSchedule = Literal["constant", "cosine", "apgd"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]

NAMED_SOURCES = ("digits", "photo-patches", "cifar10", "mnist", "fashion-mnist")
_L0_STEP = 0.5
LOCATED_SOURCES = {
    "folder:": "folder:PATH",
    "parquet:": "parquet:PATH-OR-URI",
    "numpy:": "numpy:PATH-OR-URI",
    "restricted-imagenet:": "restricted-imagenet:PATH",
}
"""Sources by the start of their names, and what follows it."""

SOURCES = (*NAMED_SOURCES, *LOCATED_SOURCES.values(), "FILE.py:FUNCTION")
"""How all sources are named."""


def is_own_source(source: str) -> bool:
    """Tell whether a source is a function of the user's own that yields images."""
    located = source in NAMED_SOURCES or source.startswith(tuple(LOCATED_SOURCES))
    return not located and OWN_FUNCTION.fullmatch(source) is not None


SMALLEST_SIDE: dict[str, int] = {
    "mlp": 1,
    "cnn": 2,
    "resnet9": 8,
    "resnet18": 1,
    "resnet50": 1,
    "wide_resnet28_10": 1,
    "vgg16_bn": 17,
    "inception": 4,
    "densenet": 4,
}
"""The shortest side, in pixels, at which every pooling still has two pixels to pool."""


def is_own(network: str) -> bool:
    """Tell whether a name of a network is none of ours: the user's own, or a library's."""
    return network not in SMALLEST_SIDE


def _check_network(name: str) -> str:
    """Refuse what names no network."""
    if not is_own(name) or LIBRARY_NETWORK.fullmatch(name) or OWN_FUNCTION.fullmatch(name):
        return name
    nearest = difflib.get_close_matches(name, SMALLEST_SIDE, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise refusal("is unknown", f"{hint}give {NETWORKS}")


_OWN = "FILE.py:FUNCTION, package.module:function, torchvision:NAME, timm:NAME"
NETWORKS = f"one of {', '.join(SMALLEST_SIDE)}, or {_OWN}"
"""What names a network."""


NetworkName = Annotated[
    str,
    AfterValidator(_check_network),
    WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(SMALLEST_SIDE)}|.+:.+)$"}),
]
"""A built-in architecture, or a function of the user's, of torchvision or of timm that builds a network."""


def is_own_loss(loss: str) -> bool:
    """Tell whether a loss is none of ours."""
    return loss not in LOSSES


def _check_loss(name: str) -> str:
    """Refuse what names no loss."""
    if not is_own_loss(name) or OWN_FUNCTION.fullmatch(name):
        return name
    nearest = difflib.get_close_matches(name, LOSSES, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise refusal("is unknown", f"{hint}give one of {', '.join(LOSSES)}, or FILE.py:FUNCTION")


AttackLoss = Annotated[
    str,
    AfterValidator(_check_loss),
    WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(LOSSES)}|.+:.+)$"}),
]
"""A built-in loss, or a function of the user's."""


@cache
def _types_of(model: type[BaseModel], field: str) -> set[type]:
    """Return the types of which a field's type is made up, those of a list's entries included."""
    return _types_in(model.model_fields[field].annotation)


def _types_in(annotation: Any) -> set[type]:
    here = {annotation} if isinstance(annotation, type) else set()
    return here.union(*map(_types_in, get_args(annotation)))


class Spec(BaseModel):
    """Base of all specs: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_read(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        kinds = _types_of(cls, info.field_name)
        return read_numbers(value, whole=float not in kinds) if kinds & {int, float} else value


REFUSED = "refused"


def refusal(problem: str, remedy: str) -> PydanticCustomError:
    """Return the complaint about a field that says how to mend it."""
    return PydanticCustomError(REFUSED, "{problem}; {remedy}", {"problem": problem, "remedy": remedy})


STORED = {"stored": True}
"""The context of ``model_validate`` for what a store holds: an earlier release may have let it pass."""


def _check_among_pixels(length: float, info: ValidationInfo) -> None:
    """Refuse a length in linf that no two pixels are apart: it is one in grey levels."""
    if length > 1 and info.context != STORED:
        problem = "is beyond what linf can be, as pixels are in [0, 1]"
        remedy = f"did you mean {length:g}/255?" if length <= 255 else "give at most 1"
        raise refusal(problem, remedy)


def _is_constant(schedule: StepSchedule) -> bool:
    """Tell whether steps are all alike, as they were before there were schedules: left out as ``unset``."""
    return schedule == "constant"


def unset(value: object) -> bool:
    """Tell whether a field is left out of descriptions, so that digests are those of before it was there."""
    return value is None


class DataSpec(Spec):
    """Which real images are used, and how they are split."""

    source: str = Field(
        description="digits, photo-patches, cifar10, mnist, fashion-mnist, folder:PATH (a folder per class), "
        "parquet:PATH-OR-URI (Hugging Face image layout), numpy:PATH-OR-URI (.npz, or a folder of .npy), "
        "restricted-imagenet:PATH (ImageNet's train/ and val/), or FILE.py:FUNCTION that yields images and "
        "labels"
    )
    root: str | None = Field(
        default=None,
        description="folder that holds the torchvision data set; without it the set is downloaded; for a "
        "function of your own, its argument root",
    )
    test_fraction: float = Field(
        default=0.3, gt=0, lt=1, description="share held out for testing if there is no test split"
    )
    train_size: int | None = Field(
        default=None, ge=1, description="use this many training images, drawn at random; all if unset"
    )
    test_size: int | None = Field(
        default=None, ge=1, description="use this many test images, drawn at random; all if unset"
    )
    image_size: int | None = Field(
        default=None,
        ge=4,
        le=1024,
        description="resize and crop pictures to this many pixels a side; restricted-imagenet: 224 if unset",
    )

    image_column: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        exclude_if=unset,
        description="parquet, numpy: the column or array of images, if its name is not a usual one",
    )
    label_column: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        exclude_if=unset,
        description="parquet, numpy: the column or array of labels, if its name is not a usual one",
    )

    @property
    def columns(self) -> dict[str, str]:
        """The columns that are named, by the fields that name them."""
        named = {"image_column": self.image_column, "label_column": self.label_column}
        return {field: name for field, name in named.items() if name is not None}

    @field_validator("image_column", "label_column")
    @classmethod
    def _only_tables_and_arrays_have_columns(cls, name: str | None, info: ValidationInfo) -> str | None:
        source = info.data.get("source")
        if name is not None and source is not None and not source.startswith(("parquet:", "numpy:")):
            raise ValueError(f"names a column, and {source} has none")
        return name

    @field_validator("image_size")
    @classmethod
    def _only_pictures_are_resized(cls, size: int | None, info: ValidationInfo) -> int | None:
        source = info.data.get("source")
        if size is not None and source in NAMED_SOURCES:
            raise ValueError(f"is for pictures of folders and tables, and {source} has a size of its own")
        return size

    @field_validator("source")
    @classmethod
    def _source_is_known(cls, source: str) -> str:
        if source in NAMED_SOURCES or is_own_source(source):
            return source
        if any(source.startswith(prefix) and source != prefix for prefix in LOCATED_SOURCES):
            return source
        raise ValueError(f"is not one of {', '.join(SOURCES)}")


class Attack(Spec):
    """Projected gradient descent on the input, within a ball around the image and within [0, 1]."""

    norm: Norm = Field(default="l2", description="norm of the ball")
    eps: float = Field(
        gt=0, le=1_000_000, description="radius of the ball, pixels in [0, 1]; l0: how many values may change"
    )
    steps: int = Field(ge=1, le=100_000, description="gradient steps")
    step_size: float | None = Field(
        default=None,
        gt=0,
        description="length of a step, of the first one if schedule is cosine or apgd; if unset 2.5 * eps / "
        "steps, and for l0, whose steps are changes of the steepest pixel, 0.5; for cosine "
        "5 * eps / (steps + 1), which adds up to the same, and for apgd 2 * eps",
    )
    targeted: bool = Field(
        default=True, description="towards the given labels (true) or away from them (false)"
    )
    loss: AttackLoss = Field(
        default="cross-entropy",
        description="loss of the attack: cross-entropy, the margin between the label's logit and the best "
        "other one (Carlini & Wagner), only the label's logit, or FILE.py:FUNCTION of logits (N, classes) "
        "and labels (N,), which returns one value per image, lower the closer to its label",
    )
    random_start: bool = Field(default=False, description="start at a random point of the ball")
    restarts: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="further attempts, each from a random point; of each image the strongest is kept",
    )
    stop_confidence: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="an image stops moving once the model gives the attack's goal this probability; "
        "all steps are taken if unset",
    )
    precision: Precision = Field(
        default="auto",
        description="fp32: the reference path; bf16; auto: the fast path at what the processor is best at",
    )
    schedule: StepSchedule = Field(
        default="constant",
        exclude_if=_is_constant,
        description="constant: all steps are of one length, as in the papers; cosine: they shorten to 0 "
        "along half a cosine (not l0); apgd: Auto-PGD (Croce & Hein 2020), which halves an image's length "
        "where it does not pay and ends at its best point (l2 and linf)",
    )

    @property
    def step_length(self) -> float:
        """The length of the first step in pixel units, given or derived."""
        if self.step_size is not None:
            return self.step_size
        if self.norm == "l0":
            return _L0_STEP
        if self.schedule == "apgd":
            return 2 * self.eps
        # The lengths along half a cosine add up to (steps + 1) / 2 times the first one.
        return 5 * self.eps / (self.steps + 1) if self.schedule == "cosine" else 2.5 * self.eps / self.steps

    @property
    def passes(self) -> int:
        """How often an image goes through the network: once a step of each attempt."""
        return self.steps * (1 + self.restarts)

    @field_validator("eps", "step_size")
    @classmethod
    def _linf_stays_among_pixels(cls, length: float | None, info: ValidationInfo) -> float | None:
        if length is not None and info.data.get("norm") == "linf":
            _check_among_pixels(length, info)
        return length

    @field_validator("schedule")
    @classmethod
    def _schedule_fits_the_norm(cls, schedule: StepSchedule, info: ValidationInfo) -> StepSchedule:
        norm = info.data.get("norm")
        if schedule != "constant" and norm == "l0":
            problem = "is for steps as long as a ball is wide, and l0 counts how many values change"
            raise refusal(problem, "leave schedule out, or give norm l2, linf or l1")
        if schedule == "apgd" and norm == "l1":
            raise refusal("is for l2 and linf, and norm is l1", "give schedule constant or cosine")
        return schedule

    @field_validator("eps")
    @classmethod
    def _l0_counts(cls, eps: float, info: ValidationInfo) -> float:
        if info.data.get("norm") == "l0" and eps != int(eps):
            raise ValueError("is not a whole number of values, which l0 counts")
        return eps


class TargetedAttack(Attack):
    """The attack that makes data sets: it moves images towards the labels they will carry."""

    targeted: Literal[True] = Field(default=True, description="towards the new labels")


class UntargetedAttack(Attack):
    """The attack of adversarial training: it moves images away from their labels."""

    targeted: Literal[False] = Field(default=False, description="away from the labels")

    def at(self, eps: float) -> "UntargetedAttack":
        """Return the attack at another radius, its steps longer or shorter by the same factor.

        Those of l0 are changes of single values, which stay as they are. Raises ``ValueError`` for a
        radius that cannot be.
        """
        step_size = self.step_size
        if step_size is not None and self.norm != "l0":
            step_size *= eps / self.eps
        return UntargetedAttack.model_validate({**self.model_dump(), "eps": eps, "step_size": step_size})


class TrainSpec(Spec):
    """How a network is trained: SGD with Nesterov momentum under a one-cycle schedule."""

    model: NetworkName = Field(default="cnn", description=f"architecture: {NETWORKS}")
    width: int = Field(
        default=32,
        ge=4,
        le=1024,
        description="channels of the first layer of mlp, cnn and resnet9; the others ignore it",
    )
    epochs: int = Field(default=20, ge=1, le=10_000, description="passes over the training data")
    batch_size: int = Field(default=64, ge=1, le=65_536, description="images per step")
    learning_rate: float = Field(default=0.1, gt=0, le=100, description="peak learning rate")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Nesterov momentum")
    weight_decay: float = Field(default=5e-4, ge=0, le=1, description="L2 penalty on the weights")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="label smoothing")
    schedule: Schedule = Field(
        default="one-cycle",
        description="the learning rate rises and falls: along a cosine (one-cycle) or straight (triangular)",
    )
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="the result is a moving average of the weights, exponential with this decay per step",
    )
    adversarial: UntargetedAttack | None = Field(
        default=None, description="train on adversarial examples of the network itself: a robust model"
    )
    augmentation: Augmentation = Field(
        default="none", description="random horizontal flips and shifts by up to an eighth, or none"
    )
    precision: Precision = Field(
        default="auto", description="fp32, bf16, or auto: bf16 if the processor has it and it is faster"
    )
    threads: int = Field(
        default=1,
        ge=1,
        le=256,
        description="CPU threads of each process; part of the digest because it changes the rounding",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="processes that train together, each on its share of every batch, with a GPU each if "
        "the cluster has them; part of the digest because batch norm sees a share at a time",
    )

    @model_validator(mode="after")
    def _every_worker_has_a_share(self) -> Self:
        if self.batch_size < 2 * self.workers and self.workers > 1:
            raise ValueError(
                f"workers {self.workers} leave less than two images each of a batch_size of {self.batch_size}"
            )
        return self

    @property
    def passes(self) -> int:
        """How often one image goes through the network: once an epoch, and once an attack step."""
        return self.epochs * (1 if self.adversarial is None else 1 + self.adversarial.passes)


STORED_MODEL = re.compile(r"[0-9a-f]{64}")
"""Weights that are a model of the store, by its digest."""


class SourceSpec(TrainSpec):
    """A source model: how it is trained, or what somebody else has trained."""

    weights: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        exclude_if=unset,
        description="weights instead of a training: a file or URI (safetensors, .pt, .pth, .ckpt) that fits "
        "model, or the digest of a model in the store",
    )
    mean: tuple[float, ...] | None = Field(
        default=None,
        min_length=1,
        exclude_if=unset,
        description="mean for which the weights of a file were trained, per channel, pixels in [0, 1]",
    )
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        default=None,
        min_length=1,
        exclude_if=unset,
        description="standard deviation for which they were trained, per channel",
    )

    @property
    def stored_weights(self) -> str | None:
        """The digest of the stored model that it is, if it is one."""
        return self.weights if self.weights is not None and STORED_MODEL.fullmatch(self.weights) else None

    @property
    def in_training(self) -> "SourceSpec":
        """The same network to be trained, as guards and other seeds are."""
        return self.model_copy(update={"weights": None, "mean": None, "std": None})

    @model_validator(mode="after")
    def _normalization_is_of_weights(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together; give both")
        if self.mean is not None and self.weights is None:
            raise ValueError("mean and std are those that weights expect; a training takes its images' own")
        if self.mean is not None and self.stored_weights is not None:
            raise ValueError("mean and std are in the stored model; leave them out")
        return self


class EvaluationSpec(Spec):
    """What target models are tested on besides clean images."""

    attack: UntargetedAttack | None = Field(
        default=None, description="also test on adversarial examples of the target model itself"
    )
    further_eps: tuple[Annotated[float, Field(gt=0, le=1_000_000)], ...] = Field(
        default=(),
        max_length=100,
        description="further radii of this attack's ball; the step size, if set, grows with them",
    )
    autoattack: bool = Field(
        default=False, description="also with AutoAttack, in the same balls; needs the extra autoattack"
    )

    measures: tuple[str, ...] = Field(
        default=(),
        max_length=20,
        exclude_if=not_,
        description="further measures: FILE.py:FUNCTION of target_model, source_model, images and labels, "
        "which returns numbers by name",
    )

    @field_validator("measures")
    @classmethod
    def _measures_are_functions(cls, measures: tuple[str, ...]) -> tuple[str, ...]:
        for name in measures:
            if OWN_FUNCTION.fullmatch(name) is None:
                raise refusal(f"{name!r} names no function", "write FILE.py:FUNCTION")
        if len(set(measures)) < len(measures):
            raise ValueError("names a function twice")
        return measures

    @field_validator("further_eps")
    @classmethod
    def _linf_stays_among_pixels(
        cls, further_eps: tuple[float, ...], info: ValidationInfo
    ) -> tuple[float, ...]:
        attack = info.data.get("attack")
        if attack is not None and attack.norm == "linf":
            _check_among_pixels(max(further_eps, default=0), info)
        return further_eps

    @model_validator(mode="after")
    def _autoattack_has_a_radius(self) -> Self:
        if self.autoattack and (self.attack is None or self.attack.norm == "l0"):
            raise ValueError("autoattack needs an attack, which gives it its norm (l2, linf, l1) and eps")
        return self

    @model_validator(mode="after")
    def _further_radii_are_of_an_attack(self) -> Self:
        if self.further_eps and self.attack is None:
            raise ValueError("further_eps need an attack, of which they are further radii")
        if self.attack is not None and self.attack.norm == "l0" and any(eps % 1 for eps in self.further_eps):
            raise ValueError("further_eps are not all whole numbers of values, which l0 counts")
        if any(isclose(*pair, rel_tol=1e-5) for pair in combinations(self.radii, 2)):
            raise ValueError("further_eps name a radius twice, or that of the attack")
        return self

    @property
    def radii(self) -> tuple[float, ...]:
        """The radii at which robust accuracy is measured, that of the attack first."""
        return () if self.attack is None else (self.attack.eps, *self.further_eps)
