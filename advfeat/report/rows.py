"""One row a recipe: what went in, what came out, with its interval, and what was published."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, computed_field

from advfeat.errors import DamagedArtifactError, first_line
from advfeat.planning import Experiment
from advfeat.recipes import Published, Recipe
from advfeat.report.intervals import mean_interval, wilson_interval
from advfeat.report.numbers import ball
from advfeat.report.setting import setting_line
from advfeat.report.verdict import (
    Verdict,
    accuracy_verdict,
    attack_note,
    robustness_verdict,
    verdict_of_parts,
)
from advfeat.spec import NetworkName, Seed
from advfeat.storage import Manifest, Store

Metrics = Mapping[str, Any]


class Cost(BaseModel):
    """What the artifacts behind a row took to make; what several rows share counts in each of them."""

    model_config = ConfigDict(frozen=True)

    seconds: float
    core_hours: float
    bytes: int


class Row(BaseModel):
    """The result of one recipe over all seeds; accuracies, shares and success are fractions."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    summary: str
    seeds: tuple[Seed, ...]
    test_accuracy: float
    ci95: tuple[float, float]
    ci95_over: str
    test_accuracies: tuple[float, ...]
    wilson_ci95: tuple[tuple[float, float], ...] = ()
    """Wilson's interval of each of them over its test images; none in the plane, which has no images."""
    chance: float
    attack_success: float | None
    train_size: int
    wrong_label_share: float | None
    mean_perturbation_norm: float | None
    source_accuracy: float | None
    source_model: NetworkName | None = None
    """Architecture of the source model, where there is one."""
    target_model: NetworkName | None = None
    """Architecture of the target model, where it is a network that learns from images."""
    setting: str | None = None
    """What it was computed at, of the settings that matter to the recipe."""
    published: Published | None
    """The figure whose setting is nearest to the experiment's."""
    published_differs: tuple[str, ...] = ()
    """The fields of the experiment in which the published setting, as far as it is known, is another."""
    teaches: bool
    """Whether the recipe is said to teach the classes."""
    claim: str
    """Why."""
    needs_success: bool = True
    """Whether the claim is about images that fool the source: it is not tested where the attack failed."""
    verdict: Verdict
    """Whether what was measured bears the claim out: in both parts, where one is of robustness."""
    verdict_reason: str | None = None
    """Why it is no other, where the interval alone does not say that: a failed attack, or one seed."""
    class_accuracies: tuple[float | None, ...] | None = None
    """Test accuracy of each class, mean over seeds."""
    calibration_error: float | None = None
    """Expected calibration error, in [0, 1]."""
    source_agreement: float | None = None
    """Share of test images on which target and source model predict the same."""
    source_agreement_by_chance: float | None = None
    """What their two accuracies alone would give."""
    source_errors: float | None = None
    """How many test images the source model gets wrong, mean over seeds."""
    source_error_agreement: float | None = None
    """The same share of these."""
    source_error_agreement_by_chance: float | None = None
    source_similarity: float | None = None
    """Linear CKA of the two networks' representations of the test images, in [0, 1]."""
    robust_accuracy: float | None = None
    """Under the evaluation's attack."""
    robust_accuracies: dict[str, float] = {}
    """The same at each radius by the name of the ball, such as ``L2 0.25``; that of the attack first."""
    robust: bool | None = None
    """Whether what it teaches is said to withstand an attack; ``None`` where nothing is said of that."""
    robust_ci95: tuple[float, float] | None = None
    """Interval of the robust accuracy, over the same as that of the test accuracy."""
    accuracy_verdict: Verdict | None = None
    """Whether the interval of the test accuracy bears its part of the claim out."""
    robustness_verdict: Verdict | None = None
    """Whether that of the robust accuracy does; ``None`` where it is not claimed or not measured."""
    autoattack_accuracy: float | None = None
    """Under AutoAttack, in the first of these balls."""
    autoattack_accuracies: dict[str, float] = {}
    """The same in each of them."""
    ordinary_robust_accuracy: float | None = None
    """What ``clean`` keeps in the same report under the same attack, where robustness is claimed."""
    permuted_accuracy: float | None = None
    """Where the classes were permuted, the share of test images that get their class's permuted one."""
    control: str | None = None
    """The recipe that the claim is held against."""
    control_accuracy: float | None = None
    """What that one reaches in the same report; in the plane, unperturbed points under the flipped labels."""
    points_right: float | None = None
    """In the plane, the share of the unperturbed points that get their own labels, which were never seen."""
    transfer_rate: float | None = None
    """Share of the adversarial examples that a network like the target model takes for their labels."""
    measures: dict[str, float] = {}
    """Figures of the user's own by their names, means over seeds."""
    axes: dict[str, bool | str | int | float] = {}
    """In a grid, the row's values on the axes."""
    cost: Cost | None = None
    command: str | None = None
    """In a grid, what computes this row alone."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def difference(self) -> float | None:
        """Test accuracy minus the published one, as fractions; None where none was published."""
        return None if self.published is None else self.test_accuracy - self.published.test_accuracy

    @computed_field  # type: ignore[prop-decorator]
    @property
    def attack_note(self) -> str | None:
        """Said of an attack that succeeded on fewer images than expected; None where that is not so."""
        return attack_note(self.attack_success if self.needs_success else None)


_ROWS = TypeAdapter(list[Row])


def recipe_row(
    recipe: Recipe[Any],
    experiment: Experiment,
    datasets: Sequence[Metrics],
    evaluations: Sequence[Metrics],
    sources: Sequence[Metrics],
) -> Row:
    """Summarize a recipe from the metrics of its stages, one entry a seed.

    The interval is Student's t over seeds, or Wilson's over the test images if there is one seed.
    """
    accuracies = [float(metrics["test_accuracy"]) for metrics in evaluations]
    train_size = round(float(np.mean([metrics["train_size"] for metrics in datasets])))
    published = recipe.published_for(experiment)
    if len(accuracies) > 1:
        interval, over = mean_interval(accuracies), "seeds"
    else:
        interval, over = _interval_of(*evaluations)
    chance, robust_interval = evaluations[0]["chance"], _robust_interval(evaluations)
    one_seed, success = over == "test images", _mean(datasets, "attack_success")
    of_accuracy = accuracy_verdict(
        recipe.claim.teaches,
        interval,
        chance,
        attack_success=success if recipe.claim.needs_success else None,
        one_seed=one_seed,
    )
    of_robustness = robustness_verdict(recipe.claim.robust, robust_interval, chance, one_seed=one_seed)
    whole = verdict_of_parts(of_accuracy, of_robustness)
    return Row(
        recipe=recipe.name,
        summary=recipe.summary,
        seeds=experiment.seeds,
        test_accuracy=float(np.mean(accuracies)),
        ci95=interval,
        ci95_over=over,
        test_accuracies=tuple(accuracies),
        wilson_ci95=tuple(_wilson(entry) for entry in evaluations if "right" in entry),
        chance=chance,
        attack_success=success,
        train_size=train_size,
        wrong_label_share=_mean(datasets, "wrong_label_share"),
        mean_perturbation_norm=_mean(datasets, "mean_perturbation_norm"),
        source_accuracy=_mean(sources, "test_accuracy"),
        source_model=_source_model(recipe, experiment, sources),
        target_model=experiment.target.model if recipe.learner == "network" else None,
        setting=setting_line(recipe, experiment, train_size, evaluations[0].get("test_size")),
        published=published,
        published_differs=() if published is None else published.differs(experiment),
        teaches=recipe.claim.teaches,
        claim=recipe.claim.because,
        needs_success=recipe.claim.needs_success,
        verdict=whole.verdict,
        verdict_reason=whole.reason,
        robust=recipe.claim.robust,
        robust_ci95=robust_interval,
        accuracy_verdict=of_accuracy.verdict,
        robustness_verdict=of_robustness and of_robustness.verdict,
        class_accuracies=_mean_of_classes(evaluations),
        control=recipe.control,
        robust_accuracies=_by_ball("robust_accuracy", experiment, evaluations),
        autoattack_accuracies=_by_ball("autoattack_accuracy", experiment, evaluations),
        measures=_own_measures(evaluations),
        **{name: _mean(evaluations, name) for name in _MEASURES},
        **_agreement(evaluations),
    )


def _source_model(recipe: Recipe[Any], experiment: Experiment, sources: Sequence[Metrics]) -> str | None:
    if recipe.source is None:
        return None
    # Of a stored model the experiment says its digest alone.
    told = {metrics["network"] for metrics in sources if "network" in metrics}
    network: str = told.pop() if told else getattr(experiment, recipe.source).model
    return network


_MEASURES = (
    "calibration_error",
    "source_similarity",
    "robust_accuracy",
    "autoattack_accuracy",
    "transfer_rate",
    "control_accuracy",
    "points_right",
    "permuted_accuracy",
)


def _own_measures(evaluations: Sequence[Metrics]) -> dict[str, float]:
    """Return what the user's own functions measured of every seed."""
    found = [entry.get("measures", {}) for entry in evaluations]
    names = [name for name in found[0] if all(name in figures for figures in found)]
    return {name: float(np.mean([figures[name] for figures in found])) for name in names}


def _agreement(evaluations: Sequence[Metrics]) -> dict[str, float | None]:
    found = [entry["source_agreement"] for entry in evaluations if "source_agreement" in entry]
    return {
        "source_agreement": _mean(found, "overall"),
        "source_agreement_by_chance": _mean(found, "overall_by_chance"),
        "source_errors": _mean(found, "errors"),
        "source_error_agreement": _mean(found, "on_errors"),
        "source_error_agreement_by_chance": _mean(found, "on_errors_by_chance"),
    }


_FURTHER = {
    "robust_accuracy": "further_robust_accuracies",
    "autoattack_accuracy": "further_autoattack_accuracies",
}
"""What an evaluation calls a measure at the radii after the first."""


def _by_ball(measure: str, experiment: Experiment, evaluations: Sequence[Metrics]) -> dict[str, float]:
    """Return the mean over seeds of an accuracy under attack, by the name of the ball."""
    attack = experiment.evaluation.attack
    if attack is None or measure not in evaluations[0]:
        return {}
    by_seed = [[entry[measure], *entry.get(_FURTHER[measure], ())] for entry in evaluations]
    balls = (ball(attack.norm, eps) for eps in experiment.evaluation.radii)
    return dict(zip(balls, np.mean(by_seed, axis=0).tolist(), strict=True))


def _mean_of_classes(evaluations: Sequence[Metrics]) -> tuple[float | None, ...] | None:
    if "class_accuracies" not in evaluations[0]:
        return None
    by_class = zip(*(entry["class_accuracies"] for entry in evaluations), strict=True)
    return tuple(_mean([{"of": value} for value in values], "of") for values in by_class)


def _interval_of(evaluation: Metrics) -> tuple[tuple[float, float], str]:
    """Return the interval of one seed, and over what it is."""
    if "ci95" in evaluation:
        low, high = evaluation["ci95"]
        return (low, high), evaluation["ci95_over"]
    return _wilson(evaluation), "test images"


def _wilson(evaluation: Metrics) -> tuple[float, float]:
    return wilson_interval(evaluation["right"], evaluation["test_size"])


def robust_balls(rows: Iterable[Row]) -> list[str]:
    """Name the balls in which robust accuracy was measured of any row, smaller ones of a norm first."""
    return _by_radius(name for row in rows for name in row.robust_accuracies)


def autoattack_balls(rows: Iterable[Row]) -> list[str]:
    """Name those in which it was measured with AutoAttack too."""
    return _by_radius(name for row in rows for name in row.autoattack_accuracies)


def _by_radius(names: Iterable[str]) -> list[str]:
    found = list(dict.fromkeys(names))
    norms = list(dict.fromkeys(name.rpartition(" ")[0] for name in found))

    def place(name: str) -> tuple[int, float]:
        norm, _, radius = name.rpartition(" ")
        return norms.index(norm), float(radius.replace(",", ""))

    return sorted(found, key=place)


def measure_names(rows: Iterable[Row]) -> list[str]:
    """Name the figures of the user's own that any row has, in their order."""
    return list(dict.fromkeys(name for row in rows for name in row.measures))


def _robust_interval(evaluations: Sequence[Metrics]) -> tuple[float, float] | None:
    """Return the interval of the accuracy under attack; ``None`` where there was no attack."""
    if any("robust_accuracy" not in entry for entry in evaluations):
        return None
    accuracies = [float(entry["robust_accuracy"]) for entry in evaluations]
    if len(accuracies) > 1:
        return mean_interval(accuracies)
    test_size = evaluations[0]["test_size"]
    return wilson_interval(round(accuracies[0] * test_size), test_size)


def cost_of(manifests: Iterable[Manifest]) -> Cost:
    """Add up what artifacts took to make."""
    seconds, core_seconds, size = 0.0, 0.0, 0
    for manifest in manifests:
        training = manifest.parameters.get("training", {})
        shards = manifest.metrics.get("shard_seconds", 0.0)
        seconds += manifest.seconds + shards
        core_seconds += manifest.seconds * training.get("threads", 1) * training.get("workers", 1) + shards
        size += manifest.bytes
    return Cost(seconds=round(seconds, 3), core_hours=round(core_seconds / 3600, 6), bytes=size)


def read_rows(store: Store, digest: str) -> list[Row]:
    """Read the rows of a report; raises ``DamagedArtifactError`` or ``MissingArtifactError``."""
    try:
        return _ROWS.validate_json(store.read(digest, "rows.json"))
    except ValidationError as error:
        raise DamagedArtifactError(
            f"rows.json of {digest[:12]} holds no rows ({first_line(error)})"
        ) from None


def _mean(metrics: Sequence[Metrics], name: str) -> float | None:
    values = [entry[name] for entry in metrics if entry.get(name) is not None]
    return float(np.mean(values)) if values else None
