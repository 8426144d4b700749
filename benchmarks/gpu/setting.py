"""What the table is computed of: the preset ``cifar10``, without PyYAML, on the images that are given."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advfeat.planning import Experiment
from advfeat.planning.experiment_file import check_experiment

PRESET = Path(__file__).parent / "cifar10.json"
"""The preset as JSON; ``python -m benchmarks.gpu.setting`` writes it anew."""

RECIPES = ("d_rand", "d_det", "mislabeled")

QUICK_TRAIN_SIZE = 400
_SMALL: dict[str, Any] = {"model": "cnn", "width": 8, "epochs": 8, "batch_size": 32, "learning_rate": 0.2}


def experiment(data: Mapping[str, Any], *, quick: bool) -> Experiment:
    """Return the experiment: one seed of three recipes; raises ``InputError`` for the data."""
    fields = json.loads(PRESET.read_text(encoding="utf-8"))
    of_single = {name: own for name, own in fields.get("only", {}).items() if name in RECIPES}
    fields |= {"data": dict(data), "recipes": RECIPES, "seeds": (0,)}
    fields |= {"only": of_single} if of_single else {}
    if quick:
        trainings = {name: {**fields[name], **_SMALL} for name in ("source", "weak_source", "target")}
        trainings["weak_source"]["epochs"] = 1
        attack = {**fields["attack"], "eps": 2.0, "steps": 4, "step_size": 1.0}
        fields |= {**trainings, "attack": attack, "only": {}}
    return check_experiment(fields)


def with_epochs(full: Experiment, *, source: float, target: float) -> Experiment:
    """Return the experiment with these shares of the epochs of source and target models, one at least."""
    fields = full.model_dump(mode="json")
    for settings in (fields, *fields.get("only", {}).values()):
        for name, share in (("source", source), ("target", target)):
            if "epochs" in settings.get(name, {}):
                settings[name]["epochs"] = max(1, int(share * settings[name]["epochs"]))
    return check_experiment(fields)


def preset_as_json() -> str:
    """Return the preset's fields, as they are kept for machines without PyYAML."""
    from importlib import resources

    from advfeat.planning.plain_text import read_yaml

    text = resources.files("advfeat.planning.presets").joinpath("cifar10.yaml").read_text(encoding="utf-8")
    return json.dumps(read_yaml(text), indent=2) + "\n"


if __name__ == "__main__":
    PRESET.write_text(preset_as_json(), encoding="utf-8")
