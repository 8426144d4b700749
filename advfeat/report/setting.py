"""One line a row: what it was computed at, of the settings that matter to its recipe."""

from typing import Any

from advfeat.planning import Experiment
from advfeat.recipes import Recipe, cross_domain, imported, leakage, perturbation_on_noise
from advfeat.report.numbers import ball, shortened
from advfeat.spec import SourceSpec, TrainSpec


def setting_line(recipe: Recipe[Any], experiment: Experiment, images: int, test_images: int | None) -> str:
    """Say what images, networks and settings gave a result, such as ``L2 1.5, 20 steps``.

    ``images`` are those that the target model learned from, ``test_images`` those that it was tested on.
    """
    own = recipe.in_words(experiment.own(recipe.settings))
    if recipe.learner == "network in the plane":
        return own
    origin, data = _origin(recipe, experiment), shortened(experiment.data.source)
    tested = f"tested on {test_images:,}" + ("" if origin == data else f" of {data}")
    attack = _attack(experiment, recipe.passes(experiment)) if recipe.attacks else ""
    parts = [f"{origin} ({images:,} images, {tested})", _networks(recipe, experiment), attack, own]
    return ", ".join(filter(None, parts))


def _origin(recipe: Recipe[Any], experiment: Experiment) -> str:
    if recipe.originals == "noise":
        return f"{experiment.own(perturbation_on_noise.Settings).noise} noise"
    if recipe.originals == "other domain":
        other = experiment.own(cross_domain.Settings).other_data
        return shortened((other or experiment.data).source)
    if recipe.originals == "unknown":
        return shortened(experiment.own(imported.Settings).imported)
    return shortened(experiment.data.source)


def _networks(recipe: Recipe[Any], experiment: Experiment) -> str:
    target = _network(experiment.target)
    if recipe.learner == "robust linear features":
        eps = experiment.own(leakage.Settings).leakage_eps
        target = f"linear features robust at {ball('l2', eps)}"
    source: SourceSpec | None = None if recipe.source is None else getattr(experiment, recipe.source)
    if source is None:
        return target
    return f"{_network(source) if source.weights is None else _given(source)} → {target}"


def _given(source: SourceSpec) -> str:
    """Name weights; a stored model's digest by its first digits, as of its network the report knows more."""
    if source.stored_weights is not None:
        return f"model {source.stored_weights[:12]}"
    return f"{source.model} (weights {source.weights})"


def _network(training: TrainSpec) -> str:
    against = training.adversarial
    robust = "" if against is None else f", against {ball(against.norm, against.eps)}"
    return f"{training.model} ({training.epochs} epoch{'s' if training.epochs != 1 else ''}{robust})"


def _attack(experiment: Experiment, passes: int) -> str:
    """Write the ball, and the steps of the attack where networks give them."""
    attack = experiment.attack
    if not passes:
        return ball(attack.norm, attack.eps)
    again = f", {attack.restarts} restarts" if attack.restarts else ""
    schedule = "" if attack.schedule == "constant" else f" ({attack.schedule})"
    return f"{ball(attack.norm, attack.eps)}, {attack.steps} steps{schedule}{again}"
