"""What a user may ask for: frozen pydantic models with bounds and descriptions on every field.

Pixels are in [0, 1] throughout; eps and step sizes are in those units.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Norm = Literal["l2", "linf"]
ModelName = Literal["mlp", "cnn", "resnet9", "resnet18"]
Augmentation = Literal["none", "flip-crop"]
RecipeName = Literal["clean", "d_rand", "d_det", "mislabeled", "shuffled"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]

NAMED_SOURCES = ("digits", "cifar10", "mnist", "fashion-mnist")
SOURCE_PREFIXES = ("folder:", "parquet:")


class Spec(BaseModel):
    """Base of all specs: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSpec(Spec):
    """Which real images are used, and how they are split."""

    source: str = Field(
        description="digits, cifar10, mnist, fashion-mnist, folder:PATH (one folder a class) or "
        "parquet:PATH-OR-URI (Hugging Face image layout)"
    )
    root: str | None = Field(
        default=None,
        description="folder that holds the torchvision data set; without it the set is downloaded",
    )
    test_fraction: float = Field(
        default=0.3, gt=0, lt=1, description="share held out for testing where no test split exists"
    )
    train_size: int | None = Field(
        default=None, ge=1, description="use this many training images, drawn at random; all if unset"
    )
    test_size: int | None = Field(
        default=None, ge=1, description="use this many test images, drawn at random; all if unset"
    )
    image_size: int | None = Field(
        default=None, ge=4, le=1024, description="resize and crop to this many pixels a side"
    )

    @field_validator("source")
    @classmethod
    def _source_is_known(cls, source: str) -> str:
        if source in NAMED_SOURCES:
            return source
        if any(source.startswith(prefix) and source != prefix for prefix in SOURCE_PREFIXES):
            return source
        raise ValueError(f"is not one of {', '.join(NAMED_SOURCES)}, folder:PATH, parquet:PATH-OR-URI")


class TrainSpec(Spec):
    """How a network is trained: SGD with Nesterov momentum under a one-cycle schedule."""

    model: ModelName = Field(default="cnn", description="architecture")
    width: int = Field(
        default=32, ge=4, le=1024, description="channels of the first layer (resnet18 has its own, 64)"
    )
    epochs: int = Field(default=20, ge=1, le=10_000, description="passes over the training data")
    batch_size: int = Field(default=64, ge=1, le=65_536, description="images a step")
    learning_rate: float = Field(default=0.1, gt=0, le=100, description="peak learning rate")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Nesterov momentum")
    weight_decay: float = Field(default=5e-4, ge=0, le=1, description="L2 penalty on the weights")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="label smoothing")
    augmentation: Augmentation = Field(
        default="none", description="random horizontal flips and shifts by up to an eighth, or none"
    )
    threads: int = Field(
        default=1,
        ge=1,
        le=256,
        description="CPU threads; part of the digest because it changes the rounding",
    )


class Attack(Spec):
    """Projected gradient descent on the input, within a ball around the image and within [0, 1]."""

    norm: Norm = Field(default="l2", description="norm of the ball")
    eps: float = Field(gt=0, le=1000, description="radius of the ball, pixels in [0, 1]")
    steps: int = Field(ge=1, le=100_000, description="gradient steps")
    step_size: float | None = Field(
        default=None, gt=0, description="length of a step; 2.5 * eps / steps if unset"
    )
    targeted: bool = Field(
        default=True, description="towards the given labels (true) or away from them (false)"
    )
    random_start: bool = Field(default=False, description="start at a random point of the ball")

    @property
    def step_length(self) -> float:
        """The length of one step in pixel units, given or derived."""
        return 2.5 * self.eps / self.steps if self.step_size is None else self.step_size


class TargetedAttack(Attack):
    """The attack that makes data sets: it moves images towards the labels they will carry."""

    targeted: Literal[True] = Field(default=True, description="towards the new labels")


class Experiment(Spec):
    """One run of the main job: source models, a data set per recipe, target models, evaluation."""

    name: str = Field(default="experiment", min_length=1, max_length=80, description="heading of the report")
    data: DataSpec = Field(description="the real images")
    source: TrainSpec = Field(description="training of the source model that is attacked")
    weak_source: TrainSpec = Field(
        description="training of the weak source model whose errors label the images of mislabeled"
    )
    target: TrainSpec = Field(description="training of the target models")
    attack: TargetedAttack = Field(description="how adversarial examples are made")
    recipes: tuple[RecipeName, ...] = Field(
        default=("clean", "d_rand", "d_det", "mislabeled", "shuffled"),
        min_length=1,
        description="the data sets to build and learn from",
    )
    seeds: tuple[Seed, ...] = Field(
        default=(0, 1, 2), min_length=1, max_length=1000, description="one repetition a seed"
    )
    shards: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="parts in which adversarial examples are generated; by size if unset; the "
        "result does not depend on it",
    )

    @field_validator("recipes", "seeds")
    @classmethod
    def _entries_are_unique(cls, entries: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(entries)) != len(entries):
            raise ValueError("names an entry twice")
        return entries
