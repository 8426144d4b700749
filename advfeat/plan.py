"""Spec -> plan: the DAG of unique stages, each with its digest, and what the store has of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from advfeat import data
from advfeat.artifact import Manifest
from advfeat.recipes import RECIPES, Recipe
from advfeat.spec import Experiment, TrainSpec
from advfeat.stage import Stage, StageKind
from advfeat.store import Store


@dataclass(frozen=True)
class Plan:
    """Unique stages in an order in which each comes after its inputs."""

    stages: tuple[Stage, ...]

    @property
    def report(self) -> Stage:
        """The stage that everything else leads to."""
        return self.stages[-1]


@dataclass(frozen=True)
class Outlook:
    """What will become of a stage, and why."""

    stage: Stage
    state: Literal["cached", "compute"]
    why: str
    damage: str | None = None


def build_plan(experiment: Experiment) -> Plan:
    """Lay out the stages of an experiment; a stage that several recipes need appears once.

    Raises ``InputError`` if the data cannot be used. Hashes the input data where they are files,
    reads nothing else and computes nothing.
    """
    stages: dict[str, Stage] = {}

    def add(
        kind: StageKind,
        title: str,
        parameters: dict[str, Any],
        inputs: dict[str, str] | None = None,
        context: dict[str, Any] | None = None,
    ) -> str:
        stage = Stage(
            kind=kind, title=title, parameters=parameters, inputs=inputs or {}, context=context or {}
        )
        stages.setdefault(stage.digest, stage)
        return stage.digest

    spec = experiment.data
    images = add(
        "images",
        f"images {spec.source}",
        {
            "identity": data.open_source(spec).identity(),
            "train_size": spec.train_size,
            "test_size": spec.test_size,
        },
        context={"data": spec.model_dump(mode="json")},
    )

    def add_source(seed: int, recipe: Recipe) -> str:
        weak = recipe.source == "weak_source"
        training = experiment.weak_source if weak else experiment.source
        title = f"{'weak source' if weak else 'source'} model, seed {seed}"
        return add("source_model", title, _training(training, seed), {"images": images})

    made_of: dict[str, str] = {"images": images}
    for seed in experiment.seeds:
        for recipe in (RECIPES[name] for name in experiment.recipes):
            where = f"{recipe.name}, seed {seed}"
            parameters: dict[str, Any] = {"recipe": recipe.name, "seed": seed}
            inputs = {"images": images}
            if recipe.source is not None:
                inputs["source_model"] = add_source(seed, recipe)
            if recipe.perturbed:
                parameters["attack"] = experiment.attack.model_dump(mode="json")
            dataset = add(
                "dataset", f"data set {where}", parameters, inputs, {"shards": experiment.shards}
            )
            model = add(
                "target_model",
                f"target model {where}",
                _training(experiment.target, seed),
                {"dataset": dataset, "images": images},
            )
            evaluation = add(
                "evaluation", f"evaluation {where}", {}, {"model": model, "images": images}
            )
            made_of |= {
                f"{recipe.name}/{seed}/{role}": digest
                for role, digest in {**inputs, "dataset": dataset, "evaluation": evaluation}.items()
                if role != "images"
            }
    add(
        "report",
        "report",
        {"experiment": experiment.model_dump(mode="json", exclude={"shards": True, "data": {"root"}})},
        made_of,
    )
    return Plan(tuple(stages.values()))


def outlook(plan: Plan, store: Store) -> list[Outlook]:
    """Say of every stage whether its artifact is in the store, and why it will be computed if not."""
    states = store.states([stage.digest for stage in plan.stages])
    known: list[Manifest] | None = None
    result: list[Outlook] = []
    for stage in plan.stages:
        manifest, damage = states[stage.digest]
        if manifest is not None:
            why = f"{manifest.bytes:,} bytes of {manifest.created}"
            result.append(Outlook(stage, "cached", why))
        elif damage is not None:
            result.append(Outlook(stage, "compute", f"damaged: {damage}", damage))
        else:
            if known is None:
                known = list(store.manifests())
            result.append(Outlook(stage, "compute", _novelty(stage, known)))
    return result


def _training(spec: TrainSpec, seed: int) -> dict[str, Any]:
    return {"training": spec.model_dump(mode="json"), "seed": seed}


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
