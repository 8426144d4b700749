"""Two dimensions: what a new network learns from adversarial points alone, and the pictures of it."""

import re
from dataclasses import fields
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from pydantic import ValidationError

from advfeat.errors import InputError
from advfeat.methods.two_dimensional import SIDE, TwoDimensional, two_dimensional
from advfeat.recipes.two_dimensional import TwoDimensionalSpec
from advfeat.report.intervals import mean_interval
from advfeat.report.plane import agreement_chart, plane_figure

SEEDS = (0, 1, 2, 3)


def setting(**changed: float) -> dict[str, Any]:
    """Return the recipe's own settings of one plane."""
    return TwoDimensionalSpec.model_validate(changed).model_dump(exclude={"planes"})


@pytest.fixture(scope="module")
def pictures() -> list[TwoDimensional]:
    return [two_dimensional(seed, **setting()) for seed in SEEDS]


@pytest.mark.slow
def test_both_networks_fit_what_they_are_given(pictures: list[TwoDimensional]) -> None:
    assert [picture.source_accuracy for picture in pictures] == [1.0] * len(SEEDS)
    assert [picture.target_accuracy for picture in pictures] == [1.0] * len(SEEDS)


def test_adversarial_points_lie_in_the_ball_and_in_the_square(pictures: list[TwoDimensional]) -> None:
    for picture in pictures:
        moves = picture.adversarial.astype(np.float64) - picture.points.astype(np.float64)
        assert np.abs(moves).max() <= 0.12
        assert picture.adversarial.min() >= 0
        assert picture.adversarial.max() <= 1


def test_most_adversarial_points_lie_in_the_other_class(pictures: list[TwoDimensional]) -> None:
    """The classes of the square, looked up at the points, say the same as the source did of them."""
    for picture in pictures:
        x, y = np.clip((picture.adversarial * SIDE).astype(np.int64), 0, SIDE - 1).T
        beyond = picture.source_classes[y, x] == picture.flipped_labels
        assert np.mean(beyond == picture.reached) > 0.9
        assert picture.adversarial_success > 0.6


def test_the_new_network_recovers_the_old_one_from_the_perturbations(pictures: list[TwoDimensional]) -> None:
    lowest, _ = mean_interval([picture.agreement for picture in pictures])
    _, highest = mean_interval([picture.control_agreement for picture in pictures])
    assert lowest > 0.5, "unrelated networks agree on half of the square"
    assert highest < 0.5, "the labels alone speak against the source"
    assert lowest > highest + 0.3


def test_seeds_decide_every_bit(pictures: list[TwoDimensional]) -> None:
    again = two_dimensional(SEEDS[0], **setting())
    for field in fields(TwoDimensional):
        assert np.array_equal(getattr(again, field.name), getattr(pictures[0], field.name)), field.name
    assert not np.array_equal(again.points, pictures[1].points)


def test_pictures_are_xml_that_needs_no_network_and_stay_the_same(pictures: list[TwoDimensional]) -> None:
    for svg in (plane_figure(pictures[0]), agreement_chart(pictures)):
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        addresses = re.findall(r'(?:href|src)="([^"]*)"|url\(([^)]*)\)', svg)
        assert all(address.startswith("#") for pair in addresses for address in pair if address)
        assert "<script" not in svg
    assert plane_figure(pictures[0]) == plane_figure(pictures[0])


def test_a_ball_too_small_to_reach_anything_is_refused() -> None:
    with pytest.raises(InputError, match="eps"):
        two_dimensional(0, **setting(points=8, eps=1e-9, epochs=200))


@pytest.mark.parametrize("fields", [{"eps": 0}, {"points": 1}, {"colour": "red"}])
def test_what_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TwoDimensionalSpec.model_validate(fields)
