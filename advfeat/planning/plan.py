"""Spec -> plan: the DAG of unique stages, each with its digest, and what the store has of them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from advfeat.data.read_once import once
from advfeat.errors import InputError
from advfeat.planning.experiment import Experiment, RecipeName
from advfeat.planning.forms import Grid
from advfeat.planning.grid import Point, points
from advfeat.planning.layout import ImagesOnce, ImportedOnce, Layout, Stages
from advfeat.planning.novelty import Novelties, artifacts_of_last_runs
from advfeat.planning.own_code import settled
from advfeat.planning.stored_models import check_stored_models
from advfeat.planning.titles import unnumbered
from advfeat.recipes import RECIPES
from advfeat.recipes.shared.own import code_of_recipes
from advfeat.storage import MOST_MANIFEST_BYTES, Stage, Store

_MOST_COMPARED = 1000
_LEFT_OF_MANIFEST = 1 << 20
"""Bytes that the manifest of a grid's report may take besides its points and what they are made of."""


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

    def described(self) -> dict[str, str]:
        """Return what is told of it: ``digest``, ``stage``, ``title``, ``state`` and ``why``."""
        return {
            "digest": self.stage.digest,
            "stage": self.stage.kind,
            "title": self.stage.title,
            "state": self.state,
            "why": self.why,
        }


def build_plan(experiment: Experiment, *, on_gpus: bool = False) -> Plan:
    """Lay out the stages of an experiment; a stage that several recipes need appears once.

    ``on_gpus`` makes larger shards, as those are done sooner on a GPU; the data sets are the same.
    Raises ``InputError`` if the data cannot be used. Hashes the input data where they are files,
    reads nothing else and computes nothing.
    """
    experiment, stages = settled(experiment), Stages()
    layouts = _layouts(experiment, on_gpus, stages)
    made_of = {"images": layouts[experiment.recipes[0]].images.digest}
    for seed in experiment.seeds:
        for recipe in experiment.recipes:
            roles = layouts[recipe].add_recipe(RECIPES[recipe], seed)
            made_of |= {f"{recipe}/{seed}/{role}": digest for role, digest in roles.items()}
    parameters = {"experiment": experiment.described()}
    code = code_of_recipes(experiment.recipes)
    stages.add(Stage(kind="report", title="report", parameters=parameters, inputs=made_of, code=code))
    return Plan(tuple(stages))


def _layouts(experiment: Experiment, on_gpus: bool, stages: Stages) -> dict[RecipeName, Layout]:
    """Return one layout for all recipes, and one of its own for each that has own settings."""
    images, imported = ImagesOnce(), ImportedOnce()
    shared = Layout(experiment, images, imported, on_gpus, stages)
    layouts = dict.fromkeys(experiment.recipes, shared)
    for recipe in experiment.only:
        try:
            layouts[recipe] = Layout(experiment.of(recipe), images, imported, on_gpus, stages, recipe)
        except InputError as error:
            raise error.further_in(f"only.{recipe}") from None
    return layouts


def build_grid_plan(points: Sequence[Point], *, on_gpus: bool = False) -> GridPlan:
    """Lay out the stages of a grid, without a report; one that several points need appears once.

    Raises ``InputError`` like ``build_plan``.
    """
    stages = Stages()
    images, imported = ImagesOnce(), ImportedOnce()
    made_of, users = [], defaultdict(list)
    for point in points:
        experiment = settled(point.experiment)
        stages_of_point = Stages()
        layout = Layout(experiment, images, imported, on_gpus, stages_of_point)
        (recipe,), (seed,) = experiment.recipes, experiment.seeds
        made_of.append({"images": layout.images.digest, **layout.add_recipe(RECIPES[recipe], seed)})
        for stage in stages_of_point:
            users[stages.add(stage)].append(point)
    varying = _varying(points)
    return GridPlan(tuple(_titled(stage, users[stage.digest], varying) for stage in stages), tuple(made_of))


def plan_of_grid(recipe: RecipeName, grid: Grid, *, on_gpus: bool = False) -> GridPlan:
    """Return ``build_grid_plan`` of a grid's points, within ``read_once`` laid out once."""
    return once(
        ("plan", recipe, grid, on_gpus), lambda: build_grid_plan(points(recipe, grid), on_gpus=on_gpus)
    )


def grid_report(
    title: str, points: Sequence[Point], made_of: Sequence[dict[str, str]], *, missing: int = 0
) -> Stage:
    """Return the stage that compares the finished points of a grid, of which ``missing`` more failed.

    Raises ``InputError`` if there are more points than the manifest of a report can hold.
    """
    described = [point.model_dump(mode="json") for point in points]
    recipes = {name for point in points[:1] for name in point.experiment.recipes}  # all have the same
    stage = Stage(
        kind="grid_report",
        title="report",
        parameters={"title": title, "points": described, "missing": missing},
        inputs={
            f"{number}/{role}": digest
            for number, roles in enumerate(made_of)
            for role, digest in roles.items()
        },
        code=code_of_recipes(recipes),
    )
    manifest = stage.model_dump_json(include={"parameters", "inputs"}, indent=2)
    if len(manifest) > MOST_MANIFEST_BYTES - _LEFT_OF_MANIFEST:
        problem = "are more than one report can hold"
        remedy = "run them in parts, such as one for each value of an axis"
        raise InputError("grid", f"{len(points):,} experiments", problem, remedy)
    return stage


def _varying(points: Sequence[Point]) -> list[str]:
    """Return the axes, but for the seeds, on which points of a grid have several values."""
    axes = points[0].axes if points else {}
    return [axis for axis in axes if axis != "seed" and len({point.axes[axis] for point in points}) > 1]


def _titled(stage: Stage, users: Sequence[Point], varying: Sequence[str]) -> Stage:
    """Add to a title where in the grid a stage belongs: the values that all points which need it share."""
    if stage.kind == "images":
        return stage
    first = users[0].axes
    place = [
        f"{axis} {first[axis]}" for axis in varying if all(point.axes[axis] == first[axis] for point in users)
    ]
    return stage.model_copy(update={"title": ", ".join([stage.title, *place])}) if place else stage


def outlook(plan: Plan, store: Store) -> list[Outlook]:
    """Say of every stage whether its artifact is in the store.

    Parts of a stage that is there already are left out, unless they are there too. Raises ``InputError``
    about a source model by digest that the store does not have.
    """
    check_stored_models(plan.stages, store)
    states = store.states([stage.digest for stage in plan.stages])
    needless = {part for stage in plan.stages if states[stage.digest][0] for part in stage.parts}
    result: list[Outlook] = []
    for stage in plan.stages:
        manifest, loss = states[stage.digest]
        if manifest is not None:
            result.append(Outlook(stage, "cached", f"{manifest.bytes:,} bytes of {manifest.created}"))
        elif stage.digest not in needless:
            result.append(Outlook(stage, "compute", loss or "not in the store yet", loss))
    return result


def with_reasons(entries: Sequence[Outlook], store: Store) -> list[Outlook]:
    """Say of what is to be computed in what it differs from what the last runs of the store computed.

    A part of a data set has the reason of the data set. Of thousands of stages, the first of those are
    compared that differ in their seeds and shards alone, and then others, up to a thousand.
    """
    new = [entry.stage for entry in entries if entry.state == "compute" and entry.loss is None]
    novelties = Novelties([entry.stage for entry in entries], artifacts_of_last_runs(store) if new else ())
    wholes = {part: entry.stage for entry in entries for part in entry.stage.parts}
    firsts = {unnumbered(stage.title): stage for stage in reversed(new)}
    compared = islice(
        dict.fromkeys(stage.digest for stage in (*reversed(firsts.values()), *new)), _MOST_COMPARED
    )
    stages = {stage.digest: wholes.get(stage.digest, stage) for stage in new}
    reasons = {digest: novelties.of(stages[digest]) for digest in compared}
    return [replace(entry, why=reasons.get(entry.stage.digest) or entry.why) for entry in entries]
