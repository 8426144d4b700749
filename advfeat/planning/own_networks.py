"""Networks of the user's own in an experiment: named by their content, with the code that workers need."""

from typing import Any

from advfeat.errors import InputError
from advfeat.planning.experiment import Experiment
from advfeat.spec import TrainSpec, is_own

ROLES = ("source", "weak_source", "robust_source", "target")
"""Fields of an experiment that name a network."""


def settled(experiment: Experiment) -> Experiment:
    """Return the experiment with the content of each own network in its name; raises ``InputError``.

    Digests hold these names: another file is another network, and where it lies does not matter.
    """
    own = {
        (*place, role): trained["model"]
        for place, fields in _settings(experiment)
        for role in ROLES
        if (trained := fields.get(role)) and is_own(trained.get("model", "cnn"))
    }
    if not own:
        return experiment
    from advfeat.models.own import settled_name

    described = experiment.model_dump(mode="json")
    for (*place, role), name in own.items():
        fields = described
        for part in place:
            fields = fields[part]
        fields[role]["model"] = settled_name(".".join((*place, role, "model")), name)
    return Experiment.model_validate(described)


def check_networks(experiment: Experiment, image_shape: tuple[int, ...], classes: int) -> None:
    """Build each own network once; raises ``InputError`` for one that cannot be used."""
    for role, training in trainings(experiment).items():
        if is_own(training.model):
            from advfeat.models.examination import examined

            try:
                examined(training.model, training.width, image_shape, classes)
            except InputError as error:
                raise error.further_in(role) from None


def code_of(experiment: Experiment) -> list[dict[str, str]]:
    """Return the files of the own networks, as workers are given them."""
    names = {training.model for training in trainings(experiment).values() if is_own(training.model)}
    if not names:
        return []
    from advfeat.extensions.functions import provided

    return [function.model_dump() for function in provided(names)]


def trainings(experiment: Experiment) -> dict[str, TrainSpec]:
    """Return how networks are trained, by their role."""
    given: dict[str, TrainSpec | None] = {role: getattr(experiment, role) for role in ROLES}
    return {role: training for role, training in given.items() if training is not None}


def _settings(experiment: Experiment) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """Return the settings of all recipes, and those of single ones, with where they stand."""
    described = experiment.model_dump(mode="json")
    return [((), described), *((("only", name), fields) for name, fields in experiment.only.items())]
