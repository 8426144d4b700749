"""What a user may ask for: frozen pydantic models with bounds and descriptions on every field.

Pixels are in [0, 1] throughout; eps and step sizes are in those units.
"""

from itertools import combinations
from math import isclose
from operator import not_
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from advfeat.planning.own_settings import further_in, merged, refused

Norm = Literal["l2", "linf", "l1", "l0"]
AttackLoss = Literal["cross-entropy", "margin", "logit"]
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
Augmentation = Literal["none", "flip-crop"]
Schedule = Literal["one-cycle", "triangular"]
RecipeName = Literal[
    "clean",
    "d_rand",
    "d_det",
    "least_likely",
    "most_confused",
    "robust_features",
    "non_robust_features",
    "transfer",
    "transfer_d_rand",
    "mislabeled",
    "cross_domain",
    "two_dimensional",
    "bugs_only",
    "leakage",
    "leakage_d_det",
    "perturbation_on_noise",
    "label_noise",
    "shuffled",
    "distillation",
    "imported",
]
Noise = Literal["uniform", "gaussian"]
FinishedSet = Annotated[str, Field(pattern="^(torch|numpy|parquet):.")]
"""Where a finished data set lies."""
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


SMALLEST_SIDE: dict[ModelName, int] = {
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


class Spec(BaseModel):
    """Base of all specs: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSpec(Spec):
    """Which real images are used, and how they are split."""

    source: str = Field(
        description="digits, photo-patches, cifar10, mnist, fashion-mnist, folder:PATH (one folder a class), "
        "parquet:PATH-OR-URI (Hugging Face image layout), numpy:PATH-OR-URI (.npz, or a folder of .npy) or "
        "restricted-imagenet:PATH (ImageNet's train/ and val/)"
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
        default=None,
        ge=4,
        le=1024,
        description="resize and crop pictures to this many pixels a side; restricted-imagenet: 224 if unset",
    )

    @field_validator("source")
    @classmethod
    def _source_is_known(cls, source: str) -> str:
        if source in NAMED_SOURCES:
            return source
        if any(source.startswith(prefix) and source != prefix for prefix in LOCATED_SOURCES):
            return source
        raise ValueError(f"is not one of {', '.join([*NAMED_SOURCES, *LOCATED_SOURCES.values()])}")


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
        description="length of a step; if unset 2.5 * eps / steps, and for l0, whose steps are changes of "
        "the steepest pixel, 0.5",
    )
    targeted: bool = Field(
        default=True, description="towards the given labels (true) or away from them (false)"
    )
    loss: AttackLoss = Field(
        default="cross-entropy",
        description="what is descended: cross-entropy, the margin between the label's logit and the best "
        "other one (Carlini & Wagner), or the label's logit alone",
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

    @property
    def step_length(self) -> float:
        """The length of one step in pixel units, given or derived."""
        if self.step_size is not None:
            return self.step_size
        return _L0_STEP if self.norm == "l0" else 2.5 * self.eps / self.steps

    @property
    def passes(self) -> int:
        """How often an image goes through the network: once a step of each attempt."""
        return self.steps * (1 + self.restarts)

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

    model: ModelName = Field(default="cnn", description="architecture")
    width: int = Field(
        default=32,
        ge=4,
        le=1024,
        description="channels of the first layer of mlp, cnn and resnet9; the others ignore it",
    )
    epochs: int = Field(default=20, ge=1, le=10_000, description="passes over the training data")
    batch_size: int = Field(default=64, ge=1, le=65_536, description="images a step")
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
        description="keep an exponential moving average of the weights, at this decay a step, as the result",
    )
    adversarial: UntargetedAttack | None = Field(
        default=None, description="train on adversarial examples of the network itself: a robust model"
    )
    augmentation: Augmentation = Field(
        default="none", description="random horizontal flips and shifts by up to an eighth, or none"
    )
    precision: Precision = Field(
        default="auto", description="fp32, bf16, or auto: bf16 where the processor has it and it pays"
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
        description="processes that train together, each on its share of every batch, with a GPU each where "
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


class Rebuilding(Spec):
    """How images are rebuilt from a source model's representation (Ilyas et al. 2019, section 3.1)."""

    steps: int = Field(default=200, ge=1, le=100_000, description="gradient steps")
    step_size: float = Field(default=0.1, gt=0, le=1000, description="L2 length of a step, pixels in [0, 1]")


class CrossDomain(Spec):
    """How the source model labels images of another domain (Wallace 2019)."""

    normalized: bool = Field(
        default=True, description="give them the mean and standard deviation of the source model's images"
    )
    balanced: bool = Field(
        default=False, description="draw as many images of each label that the source model gives"
    )


class TwoDimensionalSpec(Spec):
    """Random points of the unit square, two networks, and the attack on the first."""

    planes: int = Field(default=8, ge=1, le=1000, description="planes a seed; their mean is its figure")
    points: int = Field(default=32, ge=8, le=1000, description="points, uniform in the unit square")
    eps: float = Field(
        default=0.12, gt=0, le=1, description="radius of the l-infinity ball around each point"
    )
    steps: int = Field(default=40, ge=1, le=10_000, description="gradient steps of the attack")
    hidden: int = Field(default=128, ge=1, le=4096, description="units of each of the two hidden layers")
    epochs: int = Field(default=400, ge=1, le=100_000, description="steps of Adam, each on all points")
    learning_rate: float = Field(default=0.01, gt=0, le=1, description="learning rate of Adam")


class RecipeSettings(Spec):
    """What single recipes let one choose; a data set's digest knows those of its own recipe alone."""

    permutation: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None,
        description="d_det: the class that the images of each class are perturbed towards; the next one if "
        "unset",
    )
    label_noise: float = Field(
        default=0.4, ge=0, le=1, description="label_noise: the share of images under a random other label"
    )
    noise: Noise = Field(
        default="uniform",
        description="perturbation_on_noise: pixels uniform in [0, 1], or Gaussian around 0.5",
    )
    rebuilding: Rebuilding = Field(
        default=Rebuilding(), description="robust_features, non_robust_features: how images are rebuilt"
    )
    cross_domain: CrossDomain = Field(
        default=CrossDomain(), description="cross_domain: how the other domain's images are labelled"
    )

    @field_validator("permutation")
    @classmethod
    def _each_class_once(cls, permutation: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if permutation is not None and sorted(permutation) != list(range(len(permutation))):
            raise ValueError(f"does not name each of the classes 0 to {len(permutation) - 1} once")
        return permutation


class EvaluationSpec(Spec):
    """What target models are tested on besides clean images."""

    attack: UntargetedAttack | None = Field(
        default=None, description="also test on adversarial examples of the target model itself"
    )
    further_eps: tuple[Annotated[float, Field(gt=0, le=1_000_000)], ...] = Field(
        default=(),
        max_length=100,
        description="further radii of that attack's ball; the length of its steps, if set, grows with them",
    )
    autoattack: bool = Field(
        default=False, description="also with AutoAttack (extra advfeat[autoattack]), in the same balls"
    )

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


OF_ALL_RECIPES = ("name", "data", "other_data", "imported", "recipes", "seeds", "shards", "only")
"""The fields of an experiment that no recipe can have for itself."""


class Experiment(RecipeSettings):
    """One run of the main job: source models, a data set per recipe, target models, evaluation."""

    name: str = Field(default="experiment", min_length=1, max_length=80, description="heading of the report")
    data: DataSpec = Field(description="the real images")
    other_data: DataSpec | None = Field(
        default=None, description="cross_domain: images of another domain, of the same size and channels"
    )
    imported: FinishedSet | None = Field(
        default=None,
        description="imported: the finished data set, torch:FOLDER-OR-URI (CIFAR_ims and CIFAR_lab), "
        "numpy:PATH-OR-URI or parquet:PATH-OR-URI, of images like those of data and of their classes",
    )
    source: TrainSpec = Field(description="training of the source model that is attacked")
    weak_source: TrainSpec = Field(
        description="training of the weak source model whose errors label the images of mislabeled"
    )
    robust_source: TrainSpec | None = Field(
        default=None,
        description="training of the robust source model of robust_features, with an adversarial attack; "
        "without that attack it is the standard source model of non_robust_features",
    )
    guards: int = Field(
        default=4,
        ge=1,
        le=100,
        description="bugs_only: how many further source models the examples must not transfer to",
    )
    target: TrainSpec = Field(description="training of the target models")
    attack: TargetedAttack = Field(description="how adversarial examples are made")
    evaluation: EvaluationSpec = Field(
        default=EvaluationSpec(), description="what target models are tested on besides clean images"
    )
    two_dimensional: TwoDimensionalSpec = Field(
        default=TwoDimensionalSpec(), description="two_dimensional: points, networks and attack"
    )
    leakage_eps: float = Field(
        default=0.25,
        gt=0,
        le=1_000_000,
        description="leakage: linear features count that stay useful within this L2 ball",
    )
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
    only: dict[RecipeName, dict[str, Any]] = Field(
        default={},
        exclude_if=not_,  # an experiment without it has the digests that it always had
        description="settings of one recipe alone, in place of those above: "
        f"{{mislabeled: {{target: {{epochs: 50}}}}}}; any but {', '.join(OF_ALL_RECIPES[:-1])}",
    )

    @field_validator("recipes", "seeds")
    @classmethod
    def _entries_are_unique(cls, entries: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(entries)) != len(entries):
            raise ValueError("names an entry twice")
        return entries

    def of(self, recipe: RecipeName) -> "Experiment":
        """Return the experiment with one recipe, and with its own settings in place of those of all."""
        shared = self.model_dump(exclude={"only"})
        return Experiment.model_validate(merged(shared, self.only.get(recipe, {}) | {"recipes": (recipe,)}))

    @property
    def standard_source(self) -> TrainSpec | None:
        """The robust source model's training without its attack."""
        return self.robust_source and self.robust_source.model_copy(update={"adversarial": None})

    @property
    def data_specs(self) -> tuple[DataSpec, ...]:
        """All real images that take part."""
        other = self.other_data if "cross_domain" in self.recipes else None
        return (self.data,) if other is None else (self.data, other)

    @model_validator(mode="after")
    def _recipes_have_what_they_need(self) -> Self:
        shared = set(self.recipes) - set(self.only)  # the others are looked at with their own settings
        robust = self.robust_source is not None and self.robust_source.adversarial is not None
        if {"robust_features", "non_robust_features"} & shared and not robust:
            raise ValueError(
                "needs a robust_source with an adversarial attack for robust_features, non_robust_features"
            )
        if "imported" in shared and self.imported is None:
            raise ValueError("needs the field imported, a finished data set, for imported")
        if "cross_domain" in shared and self.other_data is None:
            raise ValueError("needs other_data, images of another domain, for cross_domain")
        if "cross_domain" in shared and self.cross_domain.normalized and self.target.adversarial:
            raise ValueError(
                "cannot have target.adversarial in cross_domain: its normalized images leave [0, 1]"
            )
        return self

    @model_validator(mode="after")
    def _single_recipes_can_have_their_settings(self) -> Self:
        for recipe, settings in self.only.items():
            place = ("only", recipe)
            if recipe not in self.recipes:
                raise refused(
                    place,
                    settings,
                    "is for a recipe that is not run",
                    f"add {recipe} to recipes, or leave it out",
                )
            for name in settings:
                if name in OF_ALL_RECIPES:
                    own = [field for field in Experiment.model_fields if field not in OF_ALL_RECIPES]
                    problem, remedy = "is one for all recipes", f"a recipe may have its own {', '.join(own)}"
                    raise refused((*place, name), settings[name], problem, remedy)
            try:
                self.of(recipe)
            except ValidationError as error:
                raise further_in(place, error) from None
        return self
