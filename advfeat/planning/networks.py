"""The networks of an experiment: how each is trained, and whether those of the user's own can be used."""

import logging
from functools import cache

from advfeat.errors import InputError
from advfeat.planning.experiment import Experiment
from advfeat.recipes import RECIPES
from advfeat.spec import SourceSpec, TrainSpec, is_own

logger = logging.getLogger(__name__)

ROLES = ("source", "weak_source", "robust_source", "target")
"""Fields of an experiment that name a network."""


def trainings(experiment: Experiment) -> dict[str, TrainSpec]:
    """Return how networks are trained, by their role."""
    given: dict[str, TrainSpec | None] = {role: getattr(experiment, role) for role in ROLES}
    return {role: training for role, training in given.items() if training is not None}


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


def check_measures(experiment: Experiment, image_shape: tuple[int, ...], classes: int) -> None:
    """Try the figures of the user's own on noise; raises ``InputError`` for those that cannot be used."""
    if not experiment.evaluation.measures:
        return
    from advfeat.evaluation import own_measures

    sources = {RECIPES[name].source is not None for name in experiment.recipes}
    target = experiment.target
    for with_source in sorted(sources):
        try:
            own_measures.check_measures(
                experiment.evaluation.measures, target.model, target.width, image_shape, classes, with_source
            )
        except InputError as error:
            raise error.further_in("evaluation") from None
