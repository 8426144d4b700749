"""The form of the main job: parameters of before mean what they meant, rare settings find their places."""

from typing import Any

import pytest
from prefect.utilities.schema_tools.validation import validate

from advfeat.errors import InputError
from advfeat.flows.experiment import learning_from_errors
from advfeat.flows.run_names import is_made_up
from advfeat.planning import load_experiment
from advfeat.planning.experiment_form import RARE, form, read_form
from advfeat.planning.forms import GRIDS
from advfeat.planning.grid import points

DIGITS = load_experiment("digits").model_dump(mode="json", exclude_none=True)


def problems(experiment: dict[str, Any]) -> list[str]:
    """Return what a server has against parameters, before it makes a run of them."""
    schema = learning_from_errors.parameters.model_dump()
    return [error.message for error in validate({"experiment": experiment, "store": "x"}, schema)]


def test_parameters_of_before_are_accepted_and_mean_what_they_meant() -> None:
    written = {**DIGITS, "source": {**DIGITS["source"], "momentum": 0.8}, "shards": 3}
    assert problems(written) == []
    assert read_form(written) == load_experiment("digits", ["source.momentum=0.8", "shards=3"])


def test_a_server_refuses_what_is_mistyped_or_out_of_bounds_wherever_it_stands() -> None:
    (mistyped,) = problems({**DIGITS, "sedes": [0]})
    assert "'sedes'" in mistyped
    (beyond,) = problems({**DIGITS, "source": {**DIGITS["source"], "momentum": 2}})
    assert "maximum" in beyond
    assert problems({**DIGITS, RARE: {"source": {"momentum": 2}}}), "in its folded place as well"


def test_rare_settings_are_put_where_they_belong_and_empty_ones_change_nothing() -> None:
    rare = {"source": {"momentum": 0.8, "adversarial": None}, "target": {}, "evaluation": {"attack": None}}
    assert problems({**DIGITS, RARE: rare}) == []
    assert read_form({**DIGITS, RARE: rare}) == load_experiment("digits", ["source.momentum=0.8"])
    assert read_form({**DIGITS, RARE: None}) == load_experiment("digits")


def test_what_is_no_experiment_is_refused_in_a_line() -> None:
    for given in ("digits", None, {**DIGITS, "attack": {"eps": -1, "steps": 1}}):
        with pytest.raises(InputError):
            read_form(given)


def test_at_most_forty_fields_stand_before_the_rare_ones() -> None:
    def fields(part: dict[str, Any]) -> int:
        inner = part.get("properties", {})
        return sum(map(fields, inner.values())) if inner else 1

    shown = {name: part for name, part in form()["properties"].items() if name != RARE}
    assert list(shown)[:7] == ["name", "data", "recipes", "seeds", "attack", "source", "target"]
    assert sum(map(fields, shown.values())) <= 40
    assert all(part["title"][0].isupper() for part in shown.values())


def test_own_images_of_a_grid_are_what_the_setting_makes_of_them() -> None:
    grid = GRIDS["d_det"]
    as_field = points("d_det", grid.model_validate({"images": "photo-patches", "seeds": [0]}))
    as_setting = points(
        "d_det", grid.model_validate({"settings": ["data.source=photo-patches"], "seeds": [0]})
    )
    assert as_field == as_setting


def test_names_that_servers_and_pages_make_up_are_told_from_typed_ones() -> None:
    assert is_made_up("Small-Viper")
    assert is_made_up("gigantic-otter")
    for typed in ("two radii", "Small-Vipers-again", "my-run", "digits", "eps-sweep"):
        assert not is_made_up(typed)
