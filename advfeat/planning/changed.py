"""What tells an experiment from its preset, in a line."""

import json
from collections.abc import Iterator
from typing import Any

from advfeat.planning.experiment import Experiment
from advfeat.planning.experiment_file import load_experiment
from advfeat.planning.packaged import preset_names

_MOST_CHARACTERS = 500


def changed_settings(experiment: Experiment) -> str:
    """Name the settings that are not those of the preset, such as ``attack.eps=0.5, seeds=[0]``.

    The preset is that of the experiment's name, else the one that has most settings in common. Recipes are
    not among them.
    """
    fields = _fields(experiment)
    names = [experiment.name] if experiment.name in preset_names() else preset_names()
    changed = min((_changed(fields, _fields(load_experiment(name))) for name in names), key=len)
    line = ", ".join(changed)
    return line if len(line) <= _MOST_CHARACTERS else f"{line[: _MOST_CHARACTERS - 1]}…"


def _changed(fields: dict[str, Any], of_preset: dict[str, Any]) -> list[str]:
    return [
        f"{field}={json.dumps(value, ensure_ascii=False)}"
        for field, value in fields.items()
        if field not in of_preset or of_preset[field] != value
    ]


def _fields(experiment: Experiment) -> dict[str, Any]:
    return dict(_leaves(experiment.model_dump(mode="json", exclude={"name": True, "recipes": True}), ""))


def _leaves(fields: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
