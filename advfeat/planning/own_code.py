"""What is the user's own, images, networks, weights, losses, figures: named by content, with its code."""

from collections.abc import Callable, Sequence
from typing import Any

from advfeat.errors import InputError
from advfeat.extensions.functions import OwnFunction, provided
from advfeat.planning.experiment import Experiment
from advfeat.planning.networks import ROLES
from advfeat.recipes.shared.own import code_of_recipes
from advfeat.spec import STORED_MODEL, is_own, is_own_loss, is_own_source


def settled(experiment: Experiment) -> Experiment:
    """Return the experiment with the content of all that is the user's own in its names.

    Digests hold these names: another file is another network, and where it lies does not matter. Raises
    ``InputError`` about what cannot be used.
    """
    own = {
        (*place, *path): (name, settle)
        for place, fields in _settings(experiment)
        for path, settle in _SETTLED.items()
        if (name := _at(fields, path)) is not None and _is_of_the_user(path, name)
    }
    if not own:
        return experiment
    described = experiment.model_dump(mode="json")
    for (*place, last), (name, settle) in own.items():
        try:
            _at(described, place)[last] = settle(name)
        except InputError as error:
            raise error.further_in(".".join(place)) from None
    return Experiment.model_validate(described)


def _at(fields: Any, path: Sequence[str]) -> Any:
    """Return the field at a path; None where there is none."""
    for part in path:
        fields = fields.get(part) if isinstance(fields, dict) else None
    return fields


def _is_of_the_user(path: tuple[str, ...], name: Any) -> bool:
    of_fields: dict[str, Callable[[Any], bool]] = {
        "source": is_own_source,
        "model": is_own,
        "loss": is_own_loss,
        "measures": bool,
    }
    return path[-1] == "weights" or of_fields[path[-1]](name)


def _settled_images(name: str) -> str:
    from advfeat.data.own_source import settled_source

    return settled_source("source", name)


def _settled_network(name: str) -> str:
    from advfeat.models.own import settled_name

    return settled_name("model", name)


def _settled_weights(name: str) -> str:
    if STORED_MODEL.fullmatch(name):
        return name
    from advfeat.models.weights import read_weights

    return read_weights(name).name


def _settled_loss(name: str) -> str:
    from advfeat.attacks.own_loss import settled_loss

    return settled_loss(name)


def _settled_measures(names: list[str]) -> list[str]:
    from advfeat.evaluation.own_measures import settled_measure

    return [settled_measure(name) for name in names]


_SETTLED: dict[tuple[str, ...], Callable[[Any], Any]] = {
    ("data", "source"): _settled_images,
    ("other_data", "source"): _settled_images,
    **{(role, "model"): _settled_network for role in ROLES},
    **{(role, "weights"): _settled_weights for role in ROLES},
    **{(role, "adversarial", "loss"): _settled_loss for role in ROLES},
    ("attack", "loss"): _settled_loss,
    ("evaluation", "attack", "loss"): _settled_loss,
    ("evaluation", "measures"): _settled_measures,
}
"""What is named by its content, and how, by its place in an experiment."""


def code_of(experiment: Experiment) -> tuple[OwnFunction, ...]:
    """Return the files of own images, networks, losses, figures and recipes, as workers are given them."""
    described = experiment.model_dump(mode="json")
    found = (_at(described, path) for path in _SETTLED if path[-1] != "weights")
    names = {name for each in found for name in (each if isinstance(each, list) else [each])}
    return (*provided(names - {None}), *code_of_recipes(experiment.recipes))


def _settings(experiment: Experiment) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """Return the settings of all recipes, and those of single ones, with where they stand."""
    described = experiment.model_dump(mode="json")
    return [((), described), *((("only", name), fields) for name, fields in experiment.only.items())]
