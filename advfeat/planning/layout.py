"""Lays out the stages of one experiment: what each recipe needs, from images to evaluation."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from typing import Any

from advfeat import data
from advfeat.data.imported import Description, describe
from advfeat.data.refusal import listed
from advfeat.data.split import cut_sizes
from advfeat.digest import derived_seed
from advfeat.errors import InputError, extra_missing
from advfeat.files.place import absolute_source
from advfeat.planning.cost import (
    attack_seconds,
    data_bytes,
    forward_flop,
    passing_bytes,
    training_bytes,
    training_flop,
)
from advfeat.planning.experiment import Experiment, RecipeName
from advfeat.planning.networks import check_measures, check_networks, check_weights, trainings
from advfeat.planning.own_code import code_of
from advfeat.planning.own_recipes import check_recipes
from advfeat.planning.shards import rows_at_once, shard_rows
from advfeat.recipes import (
    RECIPES,
    Recipe,
    SourceRole,
    bugs_only,
    cross_domain,
    d_det,
    imported,
    leakage,
    plain_name,
    two_dimensional,
)
from advfeat.spec import SMALLEST_SIDE, DataSpec, SourceSpec, TrainSpec
from advfeat.storage import Stage, StageKind

logger = logging.getLogger(__name__)

_SEEDS = 2**31


class Stages:
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
class RealImages:
    """What is known of real images before they are read."""

    stage: Stage
    train_size: int
    test_size: int
    shape: tuple[int, ...]

    @property
    def digest(self) -> str:
        """Digest of the artifact that will hold them."""
        return self.stage.digest

    @property
    def bytes_each(self) -> int:
        """Bytes of an image as uint8; a data set's are float32, four times as many."""
        return prod(self.shape)

    def making_bytes(self, rows: int) -> int:
        """Return about the memory of a process that makes float32 images of so many of these at a time."""
        return data_bytes(passing_bytes(self.train_size * self.bytes_each) + 4 * rows * self.bytes_each)


def _real_images(spec: DataSpec) -> RealImages:
    source = data.open_source(spec)
    for line in source.told() if isinstance(source, data.Telling) else ():
        logger.warning("data.source: %s %s", repr(spec.source), line)
    train_size, test_size = cut_sizes(source.sizes(), spec)
    shape = source.image_shape()
    stage = Stage(
        kind="images",
        title=f"images {spec.source}",
        parameters={
            "identity": source.identity(),
            "train_size": spec.train_size,
            "test_size": spec.test_size,
        },
        context={"data": data.absolute(spec).model_dump(mode="json")},
        stored_bytes=(train_size + test_size) * prod(shape),
    )
    return RealImages(stage, train_size, test_size, shape)


class ImagesOnce(dict[DataSpec, RealImages]):
    """Real images by their spec; files are hashed when they are first asked for."""

    def __missing__(self, spec: DataSpec) -> RealImages:
        self[spec] = _real_images(spec)
        return self[spec]


class ImportedOnce(dict[str, Description]):
    """Finished data sets by where they lie; files are read and hashed when they are first asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[tuple[str, tuple[str, ...]]] = set()

    def tell_absent(self, location: str, classes: tuple[str, ...]) -> None:
        """Warn, once, of classes that no image of a finished data set is of."""
        absent = self[location].absent_from(classes)
        if absent and (location, absent) not in self._told:
            self._told.add((location, absent))
            logger.warning("imported: %r has no image of %s", location, listed(absent, 8))

    def __missing__(self, location: str) -> Description:
        self[location] = describe(location)
        return self[location]


class Layout:
    """Lays out the stages of one experiment, whose settings are those of all its recipes.

    ``whose`` names the recipe that has them alone, in titles of networks and data sets that others have too.
    """

    def __init__(
        self,
        experiment: Experiment,
        images: ImagesOnce,
        imported: ImportedOnce,
        on_gpus: bool,
        stages: Stages,
        whose: RecipeName | None = None,
    ) -> None:
        self.images = images[experiment.data]
        _check_image_size(experiment, self.images.shape)
        self._classes = data.class_count(experiment.data)
        check_networks(experiment, self.images.shape, self._classes)
        check_weights(experiment, self.images.shape, self._classes)
        check_measures(experiment, self.images.shape, self._classes)
        check_recipes(experiment, self.images.shape, self.images.train_size, self._classes)
        _check_permutation(experiment)
        _check_autoattack(experiment, self.images.shape)
        self._experiment, self._on_gpus, self._stages = experiment, on_gpus, stages
        self._code = code_of(experiment)
        self._all_images, self._all_imported = images, imported
        self._whose = "" if whose is None else f" of {plain_name(whose)}"
        self._add(self.images.stage)

    def _add(self, stage: Stage) -> str:
        """Add a stage, with the code of the user's own that it may need; return its digest."""
        return self._stages.add(stage.model_copy(update={"code": self._code}) if self._code else stage)

    def add_recipe(self, recipe: Recipe[Any], seed: int) -> dict[str, str]:
        """Add what one recipe needs for one seed, from source model to evaluation; return digests by role."""
        if recipe.learner == "network in the plane":
            picture = self._add_plane(seed)
            return {"dataset": picture, "evaluation": picture}
        made_from = self._made_from(recipe, seed)
        trained = {role: digest for role, digest in made_from.items() if "images" not in role}
        dataset = self._add_dataset(recipe, seed, made_from)
        if recipe.learner == "robust linear features":
            return {**trained, "dataset": dataset, "evaluation": self._add_leakage(recipe, seed, dataset)}
        model = self._add_training(
            "target_model",
            f"target model {recipe.name}, seed {seed}",
            self._experiment.target,
            seed,
            {"dataset": dataset},
            self._imported.size if recipe.originals == "unknown" else self.images.train_size,
        )
        inputs = {"model": model}
        if "source_model" in trained:
            inputs["source_model"] = trained["source_model"]
        elif recipe.originals != "unknown" and self._others_use_the_source:
            inputs["source_model"] = self._add_source("source", seed)
        if recipe.transfers:
            trained["reference_model"] = self._add_reference(seed)
            inputs |= {"reference_model": trained["reference_model"], "dataset": dataset}
        evaluation = self._add_evaluation(recipe, seed, inputs)
        return {**trained, "dataset": dataset, "target_model": model, "evaluation": evaluation}

    def _made_from(self, recipe: Recipe[Any], seed: int) -> dict[str, str]:
        """Add what a data set is made from: images and source models by role."""
        inputs = {"images": self.images.digest}
        if recipe.originals == "other domain":
            inputs["other_images"] = self._add_other_domain().digest
        if recipe.source is not None:
            inputs["source_model"] = self._add_source(recipe.source, seed)
        if recipe.guarded:
            for number in range(1, self._experiment.own(bugs_only.Settings).guards + 1):
                other_seed = derived_seed(seed, "guard", number) % _SEEDS
                title = f"guard {number}{self._whose}, seed {seed}"
                inputs[f"guard_{number}"] = self._add_training(
                    "source_model", title, self._experiment.source.in_training, other_seed, {}
                )
        return inputs

    def _add_other_domain(self) -> RealImages:
        spec = self._experiment.own(cross_domain.Settings).other_data
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

    @property
    def _imported(self) -> Description:
        """The finished data set of the experiment; raises ``InputError`` if it is not of these images."""
        found = self._all_imported[self._imported_from]
        problem = None
        if found.image_shape != self.images.shape:
            problem = f"has images of {_size(found.image_shape)}, the data's are {_size(self.images.shape)}"
        else:
            try:
                found.numbers_among(data.class_names(self._experiment.data))
            except ValueError as error:
                problem = str(error)
        if problem is not None:
            raise InputError(
                "imported", self._imported_from, problem, "set data to those that it was made from"
            )
        return found

    @property
    def _imported_from(self) -> str:
        location = self._experiment.own(imported.Settings).imported
        assert location is not None, "the experiment's own check asks for it"
        return location

    def _add_imported(self) -> str:
        classes = data.class_names(self._experiment.data)
        by_name = {} if self._imported.numbers_among(classes) is None else {"labels": "by name"}
        self._all_imported.tell_absent(self._imported_from, classes)
        return self._add(
            Stage(
                kind="dataset",
                title="data set imported",
                parameters={"recipe": "imported", "identity": self._imported.identity, **by_name},
                inputs={"images": self.images.digest},
                context={"imported": absolute_source(self._imported_from)},
            )
        )

    def _add_plane(self, seed: int) -> str:
        spec = self._experiment.own(two_dimensional.Settings).two_dimensional.model_dump(mode="json")
        return self._add(
            Stage(
                kind="two_dimensional",
                title=f"plane, seed {seed}",
                parameters={"plane": spec, "seed": seed},
                memory_bytes=data_bytes(0),
            )
        )

    def _add_leakage(self, recipe: Recipe[Any], seed: int, dataset: str) -> str:
        return self._add(
            Stage(
                kind="leakage",
                title=f"evaluation {recipe.name}, seed {seed}",
                parameters={"eps": self._experiment.own(leakage.Settings).leakage_eps},
                inputs={"dataset": dataset, "images": self.images.digest},
                memory_bytes=data_bytes(passing_bytes(12 * self.images.train_size * self.images.bytes_each)),
            )
        )

    def _add_reference(self, seed: int) -> str:
        """Add a network like the target model, trained on the real images."""
        title = f"reference model{self._whose}, seed {seed}"
        other_seed = derived_seed(seed, "reference") % _SEEDS  # it may be of the source model's kind
        return self._add_training("source_model", title, self._experiment.target, other_seed, {})

    def _add_evaluation(self, recipe: Recipe[Any], seed: int, inputs: dict[str, str]) -> str:
        wanted = self._experiment.evaluation
        asked = wanted.model_dump(mode="json", exclude={"measures"}) if wanted.attack is not None else {}
        own = {"measures": list(wanted.measures)} if wanted.measures else {}
        moved = {}
        if issubclass(recipe.settings, d_det.Settings):
            moved["permutation"] = self._experiment.own(d_det.Settings).permutation
        passes = wanted.attack.passes * len(wanted.radii) if wanted.attack is not None else 0
        read = 4 * self.images.test_size * self.images.bytes_each  # as float32, and attacked
        if "dataset" in inputs:  # for the transfer rate
            read += passing_bytes(4 * self.images.train_size * self.images.bytes_each)
        return self._add(
            Stage(
                kind="evaluation",
                title=f"evaluation {recipe.name}, seed {seed}",
                parameters={**asked, **({"seed": seed} if asked else {}), **moved, **own},
                inputs={**inputs, "images": self.images.digest},
                memory_bytes=data_bytes(read),
                image_passes=self.images.test_size * passes,
                flop=self.images.test_size * self._flop(self._experiment.target, gradients=passes),
            )
        )

    @property
    def _others_use_the_source(self) -> bool:
        """Whether there is a source model that networks which never saw it can be compared with."""
        experiment = self._experiment
        shared = set(experiment.recipes) - set(experiment.only)
        return not self._whose and any(RECIPES[name].source == "source" for name in shared)

    def _add_source(self, role: SourceRole, seed: int) -> str:
        source: SourceSpec | None = getattr(self._experiment, role)
        assert source is not None, "the experiment's own check asks for it"
        if source.weights is not None:
            return self._add_pretrained(role, source)
        title = f"{role.replace('_', ' ')} model{self._whose}, seed {seed}"
        return self._add_training("source_model", title, source, seed, {})

    def _add_pretrained(self, role: SourceRole, source: SourceSpec) -> str:
        """Add a source model that is not trained; the same for all seeds."""
        stored = source.stored_weights
        weights = self._add_weights(source) if stored is None else stored
        of = source.weights if stored is None else stored[:12]
        return self._add(
            Stage(
                kind="pretrained_model",
                title=f"{role.replace('_', ' ')} model of {of}",
                parameters=self._shape,
                inputs={"weights": weights, "images": self.images.digest},
                threads=source.threads,
                memory_bytes=data_bytes(passing_bytes(4 * self.images.test_size * self.images.bytes_each)),
                image_passes=self.images.test_size,
                flop=self.images.test_size * self._flop(source, gradients=0),
            )
        )

    def _flop(self, network: TrainSpec, *, gradients: int) -> float:
        """Return about how many operations one image takes: predicted, and so many gradients of it."""
        return (1 + 2 * gradients) * forward_flop(network, self.images.shape, self._classes)

    @property
    def _shape(self) -> dict[str, Any]:
        """What a network is built for besides its own fields."""
        return {"image_shape": list(self.images.shape), "classes": self._classes}

    def _add_weights(self, source: SourceSpec) -> str:
        from advfeat.models.weights import read_weights

        assert source.weights is not None
        weights = read_weights(source.weights)
        given = source.model_dump(mode="json", include={"model", "width", "mean", "std"})
        return self._add(
            Stage(
                kind="weights",
                title=f"weights {weights.name}",
                parameters={"sha256": weights.sha256, "network": given, **self._shape},
                context={"weights": weights.uri},
            )
        )

    def _add_training(
        self,
        kind: StageKind,
        title: str,
        spec: TrainSpec,
        seed: int,
        inputs: dict[str, str],
        rows: int | None = None,
    ) -> str:
        """Add a training on ``rows`` images, about; on as many as there are real ones if unset."""
        rows = rows or self.images.train_size
        stored = rows * self.images.bytes_each * (4 if "dataset" in inputs else 1)
        return self._add(
            Stage(
                kind=kind,
                title=title,
                parameters={"training": spec.model_dump(mode="json"), "seed": seed},
                inputs={**inputs, "images": self.images.digest},
                threads=spec.threads,
                workers=spec.workers,
                memory_bytes=training_bytes(spec, self.images.shape, stored, self._classes),
                image_passes=rows * spec.passes,
                flop=rows * training_flop(spec, self.images.shape, self._classes),
            )
        )

    def _add_dataset(self, recipe: Recipe[Any], seed: int, inputs: dict[str, str]) -> str:
        if recipe.originals == "unknown":
            return self._add_imported()
        of = recipe if recipe.dataset_of is None else RECIPES[recipe.dataset_of]
        title = f"data set {of.name}{self._whose if of.name != recipe.name else ''}, seed {seed}"
        parameters = {"recipe": of.identity, "seed": seed, **self._settings(recipe)}
        images = self._add_other_domain() if recipe.originals == "other domain" else self.images
        if recipe.make is None:
            parts: tuple[str, ...] = ()
            memory = images.making_bytes(min(images.train_size, rows_at_once(4 * images.bytes_each)))
        else:
            parts = self._add_shards(recipe, title, parameters, inputs)
            memory = data_bytes(passing_bytes(4 * images.train_size * images.bytes_each))
        return self._add(
            Stage(
                kind="dataset",
                title=title,
                parameters=parameters,
                inputs=inputs,
                parts=parts,
                memory_bytes=memory,
                stored_bytes=4 * images.train_size * images.bytes_each,
            )
        )

    def _settings(self, recipe: Recipe[Any]) -> dict[str, Any]:
        """Return those settings of the experiment that matter to a recipe and that are set.

        ``None`` is left out where it is the default, which a stage takes for what is not there.
        """
        names, fields = recipe.dataset_settings, recipe.settings.model_fields
        described = self._experiment.model_dump(mode="json", include=set(names))
        unset = {
            name
            for name in names
            if name in fields and fields[name].get_default(call_default_factory=True) is None
        }
        return {name: described[name] for name in names if described[name] is not None or name not in unset}

    def _add_shards(
        self, recipe: Recipe[Any], title: str, parameters: dict[str, Any], inputs: dict[str, str]
    ) -> tuple[str, ...]:
        experiment, images = self._experiment, self.images
        passes = recipe.passes(experiment)
        source: TrainSpec = getattr(experiment, recipe.source or "source")
        shards = shard_rows(
            images.train_size,
            experiment.shards,
            seconds=attack_seconds(passes, source, images.shape, self._classes, on_gpu=self._on_gpus),
            image_bytes=4 * images.bytes_each,
        )
        return tuple(
            self._add(
                Stage(
                    kind="shard",
                    title=f"{title}, shard {number} of {len(shards)}",
                    parameters={**parameters, "rows": [rows.start, rows.stop]},
                    inputs=inputs,
                    memory_bytes=images.making_bytes(len(rows)),
                    image_passes=len(rows) * passes,
                    flop=len(rows) * self._flop(source, gradients=passes),
                    stored_bytes=4 * len(rows) * images.bytes_each,
                )
            )
            for number, rows in enumerate(shards, start=1)
        )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _check_image_size(experiment: Experiment, image_shape: tuple[int, ...]) -> None:
    """Refuse networks that pool the images away; raises ``InputError``."""
    side = min(image_shape[1:])
    for role, training in trainings(experiment).items():
        model = training.model
        if side < SMALLEST_SIDE.get(model, 1):
            raise InputError(
                f"{role}.model",
                model,
                f"needs images of {SMALLEST_SIDE[model]} pixels a side, these have {side}",
                "choose another model or larger images",
            )


def _check_autoattack(experiment: Experiment, image_shape: tuple[int, ...]) -> None:
    """Refuse AutoAttack where it cannot run; raises ``InputError``."""
    if not experiment.evaluation.autoattack:
        return
    field = "evaluation.autoattack"
    if find_spec("pyautoattack") is None:
        raise extra_missing(field, True, "autoattack")
    if (classes := data.class_count(experiment.data)) < 4 or min(image_shape[1:]) < 5:
        raise InputError(
            field,
            True,
            f"needs four classes and five pixels a side, the images have {classes} and {_size(image_shape)}",
            "leave it out; evaluation.attack works without it",
        )


def _check_permutation(experiment: Experiment) -> None:
    """Refuse a permutation of other classes than the images have; raises ``InputError``."""
    permutation = experiment.own(d_det.Settings).permutation
    if permutation is None:
        return
    if len(permutation) != (classes := data.class_count(experiment.data)):
        raise InputError(
            "permutation",
            list(permutation),
            f"names {len(permutation)} classes, the images have {classes}",
            f"name each of 0 to {classes - 1} once",
        )
