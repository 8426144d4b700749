"""The registry of recipes: a file each, and what is derived from it."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, TypeAdapter, create_model

from advfeat.errors import InputError
from advfeat.planning import Experiment, load_experiment
from advfeat.planning.experiment import _joined
from advfeat.planning.forms import GRIDS, axes_of
from advfeat.recipes import RECIPES, label_noise
from advfeat.spec import Spec
from website.recipes import page_of

ROOT = Path(__file__).parent.parent


def test_every_file_is_a_recipe_and_has_a_page() -> None:
    files = {file.stem for file in (ROOT / "advfeat/recipes").glob("*.py")} - {"__init__"}
    assert set(RECIPES) == files
    for name, recipe in RECIPES.items():
        assert (ROOT / f"docs/recipes/{page_of(name)}.md").is_file(), name
        assert recipe.control is None or recipe.control in RECIPES
        assert "\n" not in recipe.summary
        assert recipe.summary in recipe.description


def test_a_recipe_that_is_not_here_is_refused_in_a_line() -> None:
    with pytest.raises(InputError, match="recipe: 'of_others' is unknown; choose from bugs_only, clean"):
        _ = RECIPES["of_others"]


def test_own_settings_are_fields_with_their_bounds_and_axes_have_the_same() -> None:
    for value, told in ((0.7, None), (1.5, "label_noise: 1.5 is more than 1.0")):
        if told is None:
            experiment = load_experiment("digits", [f"label_noise={value}"])
            assert experiment.own(label_noise.Settings).label_noise == value
            GRIDS["label_noise"].model_validate({"label_noise": [value]})
            continue
        with pytest.raises(InputError, match=told):
            load_experiment("digits", [f"label_noise={value}"])
        with pytest.raises(ValueError, match="less than or equal to 1"):
            GRIDS["label_noise"].model_validate({"label_noise": [value]})
    for name, form in GRIDS.items():
        assert {axis.name for axis in axes_of(RECIPES[name])} < set(form.model_fields)


def test_settings_of_a_new_recipe_change_no_digest_until_they_are_set() -> None:
    class Settings(Spec):
        tilt: float = Field(default=0.5, description="of a recipe of tomorrow")

    today = load_experiment("digits")
    fields = today.model_dump()
    tomorrow = TypeAdapter[Any](create_model("Experiment", __base__=(Experiment, Settings))).validate_python
    assert tomorrow(fields).described() == today.described()
    assert tomorrow({**fields, "tilt": 0.7}).described() == {**today.described(), "tilt": 0.7}


def test_one_name_for_two_settings_is_an_error() -> None:
    class Other(Spec):
        label_noise: float = Field(default=0.1, description="of another recipe")

    with pytest.raises(ValueError, match="has a setting label_noise, which is another one"):
        _joined(Experiment, [Other])
