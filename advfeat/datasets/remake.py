"""The command that makes a stored data set again, from what its manifest and those of its inputs say."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

from advfeat.datasets.origins import data_fields, origin_of
from advfeat.planning.experiment_file import DEFAULT_PRESET, load_experiment
from advfeat.planning.packaged import preset, preset_names
from advfeat.recipes import RECIPES
from advfeat.recipes.shared.declared import NO_SETTINGS
from advfeat.storage import SOURCE_MODELS, Manifest, Store, input_of


def remaking_command(store: Store, manifest: Manifest) -> str:
    """Return the command whose plan holds a data set, or real images, under the same digest.

    Where the user's own files lie is not known: their place is called PATH.
    Raises ``MissingArtifactError`` or ``DamagedArtifactError``.
    """
    preset, assignments = remaking_assignments(store, manifest)
    words = [word for assignment in assignments for word in ("--set", assignment)]
    return shlex.join(["advfeat", "run", preset, *words])


def remaking_assignments(store: Store, manifest: Manifest) -> tuple[str, list[str]]:
    """Return the preset and the assignments of that command: what differs from the preset."""
    fields = _data_set_fields(store, manifest) if manifest.stage == "dataset" else {}
    images = manifest if manifest.stage == "images" else input_of(store, manifest, "images", "images")
    fields["data"] = data_fields(images.parameters)
    source = fields["data"]["source"]
    start = source if source in preset_names() else DEFAULT_PRESET
    given = load_experiment(start).model_dump(mode="json")
    recipe, seed = manifest.parameters.get("recipe", "clean"), manifest.parameters.get("seed", 0)
    # What the preset says of the recipe alone would stand above what is the same for all recipes.
    of_recipe = ["only={}"] if fields.keys() & preset(start).only.get(recipe, {}).keys() else []
    return start, [*of_recipe, *_differences(fields, given), f"recipes=[{recipe}]", f"seeds=[{seed}]"]


def _data_set_fields(store: Store, manifest: Manifest) -> dict[str, Any]:
    inputs = manifest.inputs
    fields = {name: value for name, value in manifest.parameters.items() if name not in NO_SETTINGS}
    if (role := _source_role(manifest)) is not None:
        training = _source(store, input_of(store, manifest, "source_model", *SOURCE_MODELS))
        if role == "standard_source":  # the robust one's training, but for the attack
            fields["robust_source"] = {k: v for k, v in training.items() if k != "adversarial"}
        else:
            fields[role] = training
    if "identity" in manifest.parameters:  # a finished data set from elsewhere
        fields["imported"] = origin_of(manifest.parameters["identity"]).source
    if guards := sum(name.startswith("guard_") for name in inputs):
        fields["guards"] = guards
    if "other_images" in inputs:
        fields["other_data"] = data_fields(input_of(store, manifest, "other_images", "images").parameters)
    return fields


def _source_role(manifest: Manifest) -> str | None:
    """Return which source model a data set was made with; those of others' recipes say it themselves."""
    own = manifest.metrics.get("own_recipe")
    if own is not None:
        role: str | None = own["source"]
        return role
    return RECIPES[manifest.parameters["recipe"]].source


def _source(store: Store, model: Manifest) -> dict[str, Any]:
    """Return the fields of a source model: its training, or the weights that it was made of."""
    if model.stage == "source_model":
        training: dict[str, Any] = model.parameters["training"]
        return training
    weights = store.find(model.inputs["weights"])
    network = {} if weights is None else weights.parameters.get("network", {})
    return {**network, "weights": model.metrics["weights"]}


def _differences(wanted: dict[str, Any], given: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in wanted.items():
        other = given.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            yield from _differences(value, other, f"{prefix}{name}.")
        elif value != other:
            yield f"{prefix}{name}={value if isinstance(value, str) and value else json.dumps(value)}"
