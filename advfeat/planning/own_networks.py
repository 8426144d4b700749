"""Networks and weights of the user's own in an experiment: named by content, with the code they need."""

import logging
from functools import cache
from typing import Any

from advfeat.errors import InputError
from advfeat.extensions.functions import OwnFunction, provided
from advfeat.planning.experiment import Experiment
from advfeat.spec import STORED_MODEL, SourceSpec, TrainSpec, is_own

logger = logging.getLogger(__name__)

ROLES = ("source", "weak_source", "robust_source", "target")
"""Fields of an experiment that name a network."""


def settled(experiment: Experiment) -> Experiment:
    """Return the experiment with the content of own networks and weights in their names.

    Raises ``InputError`` about what cannot be used.

    Digests hold these names: another file is another network, and where it lies does not matter.
    """
    own = {
        (*place, role, field): trained[field]
        for place, fields in _settings(experiment)
        for role in ROLES
        if (trained := fields.get(role))
        for field in ("model", "weights")
        if field in trained and (field == "weights" or is_own(trained[field]))
    }
    if not own:
        return experiment
    described = experiment.model_dump(mode="json")
    for (*place, role, field), name in own.items():
        fields = described
        for part in place:
            fields = fields[part]
        settle = _settled_network if field == "model" else _settled_weights
        try:
            fields[role][field] = settle(name)
        except InputError as error:
            raise error.further_in(".".join((*place, role))) from None
    return Experiment.model_validate(described)


def _settled_network(name: str) -> str:
    from advfeat.models.own import settled_name

    return settled_name("model", name)


def _settled_weights(name: str) -> str:
    if STORED_MODEL.fullmatch(name):
        return name
    from advfeat.models.weights import read_weights

    return read_weights(name).name


def check_networks(experiment: Experiment, image_shape: tuple[int, ...], classes: int) -> None:
    """Build each own network once; raises ``InputError`` for one that cannot be used."""
    for role, training in trainings(experiment).items():
        if is_own(training.model):
            from advfeat.models.examination import examined

            try:
                examined(training.model, training.width, image_shape, classes)
            except InputError as error:
                raise error.further_in(role) from None


def check_weights(experiment: Experiment, image_shape: tuple[int, ...], classes: int) -> None:
    """Put weights of files into their networks; raises ``InputError`` for those that do not fit."""
    for role in ROLES:
        source = getattr(experiment, role)
        if isinstance(source, SourceSpec) and source.weights is not None and source.stored_weights is None:
            try:
                _check_fit(source, image_shape, classes)
            except InputError as error:
                raise error.further_in(role) from None


@cache
def _check_fit(source: SourceSpec, image_shape: tuple[int, ...], classes: int) -> None:
    from advfeat.models.weights import fitted, read_weights

    assert source.weights is not None
    model = fitted(read_weights(source.weights), source, image_shape, classes)
    if source.mean is None and not model.mean.any() and (model.std == 1).all():
        told = (
            "%s takes pixels in [0, 1] as they are: neither it nor source.mean and source.std normalize them"
        )
        logger.warning(told, source.weights)


def code_of(experiment: Experiment) -> tuple[OwnFunction, ...]:
    """Return the files of the own networks, as workers are given them."""
    names = {training.model for training in trainings(experiment).values() if is_own(training.model)}
    if not names:
        return ()
    return tuple(provided(names))


def trainings(experiment: Experiment) -> dict[str, TrainSpec]:
    """Return how networks are trained, by their role."""
    given: dict[str, TrainSpec | None] = {role: getattr(experiment, role) for role in ROLES}
    return {role: training for role, training in given.items() if training is not None}


def _settings(experiment: Experiment) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """Return the settings of all recipes, and those of single ones, with where they stand."""
    described = experiment.model_dump(mode="json")
    return [((), described), *((("only", name), fields) for name, fields in experiment.only.items())]
