"""One line a row: what it was computed at, of the settings that matter to its recipe."""

from collections.abc import Callable, Mapping

from advfeat.recipes import Recipe
from advfeat.report.numbers import ball, percent, shortened
from advfeat.spec import Experiment, TrainSpec, TwoDimensionalSpec


def setting_line(recipe: Recipe, experiment: Experiment, images: int, test_images: int | None) -> str:
    """Say what images, networks and settings gave a result, such as ``L2 1.5, 20 steps``.

    ``images`` are those that the target model learned from, ``test_images`` those that it was tested on.
    """
    if recipe.learner == "network in the plane":
        return _plane(experiment.two_dimensional)
    origin, data = _origin(recipe, experiment), shortened(experiment.data.source)
    tested = f"tested on {test_images:,}" + ("" if origin == data else f" of {data}")
    settings = (_SETTINGS.get(name, _none)(experiment) for name in recipe.settings)
    parts = [f"{origin} ({images:,} images, {tested})", _networks(recipe, experiment), *settings]
    if recipe.guarded:
        parts.append(f"{experiment.guards} guard{'s' if experiment.guards > 1 else ''}")
    return ", ".join(filter(None, parts))


def _origin(recipe: Recipe, experiment: Experiment) -> str:
    if recipe.originals == "noise":
        return f"{experiment.noise} noise"
    if recipe.originals == "other domain" and experiment.other_data is not None:
        return shortened(experiment.other_data.source)
    return shortened(experiment.imported if recipe.originals == "unknown" else experiment.data.source)


def _networks(recipe: Recipe, experiment: Experiment) -> str:
    target = _network(experiment.target)
    if recipe.learner == "robust linear features":
        target = f"linear features robust at {ball('l2', experiment.leakage_eps)}"
    source: TrainSpec | None = None if recipe.source is None else getattr(experiment, recipe.source)
    return target if source is None else f"{_network(source)} → {target}"


def _network(training: TrainSpec) -> str:
    against = training.adversarial
    robust = "" if against is None else f", against {ball(against.norm, against.eps)}"
    return f"{training.model} ({training.epochs} epoch{'s' if training.epochs != 1 else ''}{robust})"


def _attack(experiment: Experiment) -> str:
    attack = experiment.attack
    again = f", {attack.restarts} restarts" if attack.restarts else ""
    return f"{ball(attack.norm, attack.eps)}, {attack.steps} steps{again}"


def _permutation(experiment: Experiment) -> str:
    order = experiment.permutation
    return "" if order is None else f"classes to {' '.join(map(str, order))}"


def _rebuilding(experiment: Experiment) -> str:
    return f"rebuilt in {experiment.rebuilding.steps:,} steps of {experiment.rebuilding.step_size:g}"


def _cross_domain(experiment: Experiment) -> str:
    how = experiment.cross_domain
    return ("normalized" if how.normalized else "not normalized") + (", balanced" if how.balanced else "")


def _none(_: Experiment) -> str:
    return ""


_SETTINGS: Mapping[str, Callable[[Experiment], str]] = {
    "attack": _attack,
    "permutation": _permutation,
    "label_noise": lambda experiment: f"{percent(experiment.label_noise)} random labels",
    "rebuilding": _rebuilding,
    "cross_domain": _cross_domain,
}
"""How settings are written that a recipe may declare; ``noise`` stands with the images."""


def _plane(spec: TwoDimensionalSpec) -> str:
    return (
        f"{spec.planes} planes of {spec.points} points, networks of 2 x {spec.hidden} units "
        f"({spec.epochs} epochs), {ball('linf', spec.eps)}, {spec.steps} steps"
    )
