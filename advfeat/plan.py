"""Spec -> plan: the DAG of unique stages, each with its digest, and what the store has of them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from advfeat import data
from advfeat.artifact import Manifest
from advfeat.cost import attack_seconds, data_bytes, training_bytes
from advfeat.digest import derived_seed
from advfeat.errors import InputError
from advfeat.grid import Point
from advfeat.recipes import RECIPES, Recipe, SourceRole
from advfeat.shards import shard_rows
from advfeat.spec import SMALLEST_SIDE, DataSpec, Experiment, TrainSpec
from advfeat.stage import Stage, StageKind
from advfeat.store import Store

_SEEDS = 2**31


@dataclass(frozen=True)
class Plan:
    """Unique stages in an order in which each comes after what it needs."""

    stages: tuple[Stage, ...]

    @property
    def report(self) -> Stage:
        """The stage that everything else leads to."""
        return self.stages[-1]


@dataclass(frozen=True)
class GridPlan:
    """Unique stages of many experiments, and what each experiment is made of: digests by role."""

    stages: tuple[Stage, ...]
    made_of: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Outlook:
    """What will become of a stage, and why; ``loss`` says what befell an artifact that was there."""

    stage: Stage
    state: Literal["cached", "compute"]
    why: str
    loss: str | None = None


def build_plan(experiment: Experiment, *, on_gpus: bool = False) -> Plan:
    """Lay out the stages of an experiment; a stage that several recipes need appears once.

    ``on_gpus`` makes larger shards, as those are done sooner on a GPU; the data sets are the same.
    Raises ``InputError`` if the data cannot be used. Hashes the input data where they are files,
    reads nothing else and computes nothing.
    """
    stages = _Stages()
    layout = _Layout(experiment, _ImagesOnce(), on_gpus, stages)
    made_of = {"images": layout.images.digest}
    for seed in experiment.seeds:
        for recipe in experiment.recipes:
            roles = layout.add_recipe(RECIPES[recipe], seed)
            made_of |= {f"{recipe}/{seed}/{role}": digest for role, digest in roles.items()}
    described = experiment.model_dump(mode="json", exclude={"shards": True, "data": {"root"}})
    stages.add(Stage(kind="report", title="report", parameters={"experiment": described}, inputs=made_of))
    return Plan(tuple(stages))


def build_grid_plan(points: Sequence[Point], *, on_gpus: bool = False) -> GridPlan:
    """Lay out the stages of a grid, without a report; one that several points need appears once.

    Raises ``InputError`` like ``build_plan``.
    """
    stages = _Stages()
    images = _ImagesOnce()
    made_of, users = [], defaultdict(list)
    for point in points:
        experiment = point.experiment
        stages_of_point = _Stages()
        layout = _Layout(experiment, images, on_gpus, stages_of_point)
        (recipe,), (seed,) = experiment.recipes, experiment.seeds
        made_of.append({"images": layout.images.digest, **layout.add_recipe(RECIPES[recipe], seed)})
        for stage in stages_of_point:
            users[stages.add(stage)].append(point)
    return GridPlan(tuple(_titled(stage, users[stage.digest], points) for stage in stages), tuple(made_of))


def grid_report(
    title: str, points: Sequence[Point], made_of: Sequence[dict[str, str]], *, missing: int = 0
) -> Stage:
    """Return the stage that compares the finished points of a grid, of which ``missing`` more failed."""
    described = [point.model_dump(mode="json") for point in points]
    return Stage(
        kind="grid_report",
        title="report",
        parameters={"title": title, "points": described, "missing": missing},
        inputs={
            f"{number}/{role}": digest
            for number, roles in enumerate(made_of)
            for role, digest in roles.items()
        },
    )


def _titled(stage: Stage, users: Sequence[Point], points: Sequence[Point]) -> Stage:
    """Add to a title where in the grid a stage belongs: the values that all points which need it share."""
    if stage.kind == "images":
        return stage
    place = [
        f"{axis} {value}"
        for axis, value in users[0].axes.items()
        if axis != "seed"
        and all(point.axes[axis] == value for point in users)
        and any(point.axes[axis] != value for point in points)
    ]
    return stage.model_copy(update={"title": ", ".join([stage.title, *place])})


def outlook(plan: Plan, store: Store) -> list[Outlook]:
    """Say of every stage whether its artifact is in the store, and why it will be computed if not.

    Parts of a stage that is there already are left out, unless they are there too.
    """
    states = store.states([stage.digest for stage in plan.stages])
    needless = {part for stage in plan.stages if states[stage.digest][0] for part in stage.parts}
    known: list[Manifest] | None = None
    result: list[Outlook] = []
    for stage in plan.stages:
        manifest, loss = states[stage.digest]
        if manifest is not None:
            result.append(Outlook(stage, "cached", f"{manifest.bytes:,} bytes of {manifest.created}"))
        elif stage.digest in needless:
            continue
        elif loss is not None:
            result.append(Outlook(stage, "compute", loss, loss))
        else:
            if known is None:
                known = list(store.manifests())
            result.append(Outlook(stage, "compute", _novelty(stage, known)))
    return result


class _Stages:
    """Stages by digest, each of them once, in the order they were first added."""

    def __init__(self) -> None:
        self._stages: dict[str, Stage] = {}

    def __iter__(self) -> Iterator[Stage]:
        return iter(self._stages.values())

    def add(self, stage: Stage) -> str:
        """Add a stage, unless it is there; return its digest."""
        self._stages.setdefault(stage.digest, stage)
        return stage.digest


@dataclass(frozen=True)
class _RealImages:
    """What is known of real images before they are read."""

    stage: Stage
    train_size: int
    test_size: int
    shape: tuple[int, ...]

    @property
    def digest(self) -> str:
        return self.stage.digest

    @property
    def bytes_each(self) -> int:
        """Bytes of an image as uint8; a data set's are float32, four times as many."""
        return prod(self.shape)


def _real_images(spec: DataSpec) -> _RealImages:
    stage = Stage(
        kind="images",
        title=f"images {spec.source}",
        parameters={
            "identity": data.open_source(spec).identity(),
            "train_size": spec.train_size,
            "test_size": spec.test_size,
        },
        context={"data": spec.model_dump(mode="json")},
    )
    return _RealImages(stage, *data.sizes(spec), data.image_shape(spec))


class _ImagesOnce(dict[DataSpec, _RealImages]):
    """Real images by their spec; files are hashed when they are first asked for."""

    def __missing__(self, spec: DataSpec) -> _RealImages:
        self[spec] = _real_images(spec)
        return self[spec]


class _Layout:
    """Lays out the stages of one experiment."""

    def __init__(self, experiment: Experiment, images: _ImagesOnce, on_gpus: bool, stages: _Stages) -> None:
        self.images = images[experiment.data]
        _check_image_size(experiment, self.images.shape)
        self._experiment, self._on_gpus, self._add = experiment, on_gpus, stages.add
        self._all_images = images
        self._add(self.images.stage)

    def add_recipe(self, recipe: Recipe, seed: int) -> dict[str, str]:
        """Add what one recipe needs for one seed, from source model to evaluation; return digests by role."""
        if recipe.learner == "network in the plane":
            picture = self._add_plane(seed)
            return {"dataset": picture, "evaluation": picture}
        made_from = self._made_from(recipe, seed)
        sources = {role: digest for role, digest in made_from.items() if role == "source_model"}
        dataset = self._add_dataset(recipe, seed, made_from)
        if recipe.learner == "robust linear features":
            return {**sources, "dataset": dataset, "evaluation": self._add_leakage(recipe, seed, dataset)}
        model = self._add_training(
            "target_model",
            f"target model {recipe.name}, seed {seed}",
            self._experiment.target,
            seed,
            {"dataset": dataset},
        )
        inputs = {"model": model, **sources}
        if recipe.transfers:
            inputs |= {"reference_model": self._add_reference(seed), "dataset": dataset}
        evaluation = self._add_evaluation(recipe, seed, inputs)
        return {**sources, "dataset": dataset, "target_model": model, "evaluation": evaluation}

    def _made_from(self, recipe: Recipe, seed: int) -> dict[str, str]:
        """Add what a data set is made from: images and source models by role."""
        inputs = {"images": self.images.digest}
        if recipe.originals == "other domain":
            inputs["other_images"] = self._add_other_domain().digest
        if recipe.source is not None:
            inputs["source_model"] = self._add_source(recipe.source, seed)
        if recipe.guarded:
            for number in range(1, self._experiment.guards + 1):
                other_seed = derived_seed(seed, "guard", number) % _SEEDS
                title = f"guard {number}, seed {seed}"
                inputs[f"guard_{number}"] = self._add_training(
                    "source_model", title, self._experiment.source, other_seed, {}
                )
        return inputs

    def _add_other_domain(self) -> _RealImages:
        spec = self._experiment.other_data
        assert spec is not None, "the experiment's own check asks for it"
        other = self._all_images[spec]
        if other.shape != self.images.shape:
            raise InputError(
                "other_data",
                spec.source,
                f"has images of {_size(other.shape)}, the source model's are {_size(self.images.shape)}",
                "choose images of one size, or set image_size for both",
            )
        self._add(other.stage)
        return other

    def _add_plane(self, seed: int) -> str:
        spec = self._experiment.two_dimensional.model_dump(mode="json")
        return self._add(
            Stage(
                kind="two_dimensional",
                title=f"plane, seed {seed}",
                parameters={"plane": spec, "seed": seed},
                memory_bytes=data_bytes(0),
            )
        )

    def _add_leakage(self, recipe: Recipe, seed: int, dataset: str) -> str:
        return self._add(
            Stage(
                kind="leakage",
                title=f"evaluation {recipe.name}, seed {seed}",
                parameters={"eps": self._experiment.leakage_eps},
                inputs={"dataset": dataset, "images": self.images.digest},
                # Two sets of images as float32, and as float64 at their linear features.
                memory_bytes=data_bytes(12 * self.images.train_size * self.images.bytes_each),
            )
        )

    def _add_reference(self, seed: int) -> str:
        """Add a network like the target model, trained on the real images."""
        title = f"reference model, seed {seed}"
        other_seed = derived_seed(seed, "reference") % _SEEDS  # it may be of the source model's kind
        return self._add_training("source_model", title, self._experiment.target, other_seed, {})

    def _add_evaluation(self, recipe: Recipe, seed: int, inputs: dict[str, str]) -> str:
        wanted = self._experiment.evaluation
        asked = wanted.model_dump(mode="json") if wanted.attack is not None else {}
        passes = wanted.attack.passes if wanted.attack is not None else 0
        return self._add(
            Stage(
                kind="evaluation",
                title=f"evaluation {recipe.name}, seed {seed}",
                parameters={**asked, **({"seed": seed} if asked else {})},
                inputs={**inputs, "images": self.images.digest},
                memory_bytes=data_bytes(self.images.test_size * self.images.bytes_each),
                image_passes=self.images.test_size * passes,
            )
        )

    def _add_source(self, role: SourceRole, seed: int) -> str:
        training: TrainSpec | None = getattr(self._experiment, role)
        assert training is not None, "the experiment's own check asks for it"
        title = f"{role.replace('_', ' ')} model, seed {seed}"
        return self._add_training("source_model", title, training, seed, {})

    def _add_training(
        self, kind: StageKind, title: str, spec: TrainSpec, seed: int, inputs: dict[str, str]
    ) -> str:
        stored = self.images.train_size * self.images.bytes_each * (4 if "dataset" in inputs else 1)
        return self._add(
            Stage(
                kind=kind,
                title=title,
                parameters={"training": spec.model_dump(mode="json"), "seed": seed},
                inputs={**inputs, "images": self.images.digest},
                threads=spec.threads,
                workers=spec.workers,
                memory_bytes=training_bytes(spec, self.images.shape, stored),
                image_passes=self.images.train_size * spec.passes,
            )
        )

    def _add_dataset(self, recipe: Recipe, seed: int, inputs: dict[str, str]) -> str:
        name = recipe.dataset_of or recipe.name
        title = f"data set {name}, seed {seed}"
        parameters = {"recipe": name, "seed": seed, **self._settings(recipe)}
        images = self._add_other_domain() if recipe.originals == "other domain" else self.images
        joined = data_bytes(4 * images.train_size * images.bytes_each)
        parts = () if recipe.make is None else self._add_shards(recipe, title, parameters, inputs)
        return self._add(
            Stage(
                kind="dataset",
                title=title,
                parameters=parameters,
                inputs=inputs,
                parts=parts,
                memory_bytes=joined,
            )
        )

    def _settings(self, recipe: Recipe) -> dict[str, Any]:
        """Return those settings of the experiment that matter to a recipe and that are set."""
        described = self._experiment.model_dump(mode="json", include=set(recipe.settings))
        return {name: described[name] for name in recipe.settings if described[name] is not None}

    def _add_shards(
        self, recipe: Recipe, title: str, parameters: dict[str, Any], inputs: dict[str, str]
    ) -> tuple[str, ...]:
        experiment, images = self._experiment, self.images
        passes = experiment.attack.passes if recipe.attacks else experiment.rebuilding.steps
        passes *= 1 + (experiment.guards if recipe.guarded else 0)
        source: TrainSpec = getattr(experiment, recipe.source or "source")
        shards = shard_rows(
            images.train_size,
            experiment.shards,
            seconds=attack_seconds(passes, source, images.shape, on_gpu=self._on_gpus),
            image_bytes=4 * images.bytes_each,
        )
        return tuple(
            self._add(
                Stage(
                    kind="shard",
                    title=f"{title}, shard {number} of {len(shards)}",
                    parameters={**parameters, "rows": [rows.start, rows.stop]},
                    inputs=inputs,
                    memory_bytes=data_bytes((images.train_size + 4 * len(rows)) * images.bytes_each),
                    image_passes=len(rows) * passes,
                )
            )
            for number, rows in enumerate(shards, start=1)
        )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _check_image_size(experiment: Experiment, image_shape: tuple[int, ...]) -> None:
    """Refuse networks that pool the images away; raises ``InputError``."""
    side = min(image_shape[1:])
    for role in ("source", "weak_source", "robust_source", "target"):
        training: TrainSpec | None = getattr(experiment, role)
        if training is None:
            continue
        model = training.model
        if side < SMALLEST_SIDE[model]:
            raise InputError(
                f"{role}.model",
                model,
                f"needs images of {SMALLEST_SIDE[model]} pixels a side, these have {side}",
                "choose another model or larger images",
            )


def _novelty(stage: Stage, known: Iterable[Manifest]) -> str:
    """Say in what a stage differs from the most similar artifact of its kind."""
    wanted = _identity(stage.version, stage.parameters, stage.inputs)
    nearest: list[str] | None = None
    for manifest in known:
        if manifest.stage != stage.kind:
            continue
        other = _identity(manifest.version, manifest.parameters, manifest.inputs)
        changes = [
            f"{name} {other.get(name, 'unset')} → {wanted.get(name, 'unset')}"
            for name in sorted(wanted.keys() | other.keys())
            if wanted.get(name) != other.get(name)
        ]
        if nearest is None or len(changes) < len(nearest):
            nearest = changes
    if nearest is None:
        return f"the store holds no {stage.kind} yet"
    return "new: " + ", ".join(nearest[:3]) + (", …" if len(nearest) > 3 else "")


def _identity(version: int, parameters: dict[str, Any], inputs: dict[str, str]) -> dict[str, str]:
    flat = {"version": str(version)} if version else {}
    flat |= {f"input {role}": digest[:12] for role, digest in inputs.items()}
    pending: list[tuple[str, Any]] = list(parameters.items())
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict):
            pending += [(f"{name}.{key}", entry) for key, entry in value.items()]
        else:
            flat[name] = str(value)
    return flat
