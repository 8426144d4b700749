"""What a grid's report says first: what was varied, the main result, and the lanes of its main figure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from advfeat.report.groups import Group, axis_values, groups, over_other_axes, varying_axes
from advfeat.report.lanes import Lane, over_what
from advfeat.report.numbers import interval, shortened
from advfeat.report.rows import Row
from advfeat.report.verdicts import verdict_label

_MOST_LANES = 16
_MOST_VALUES = 24
_MOST_NAMED = 4
"""Values of an axis, or places, that a sentence names."""
_UNITS = {"eps": "eps, pixels in [0, 1]"}


def heading(axis: str) -> str:
    """Write an axis as a reader would, with its unit."""
    return _UNITS.get(axis, axis.replace("_", " "))


def place_name(axes: Mapping[str, Any], varying: Sequence[str]) -> str:
    """Name a place of a grid by its values on the axes that have several."""
    return ", ".join(f"{axis.replace('_', ' ')} {shortened(axes[axis])}" for axis in varying)


def highest(places: Sequence[Group]) -> Group:
    """Return the place with the highest mean test accuracy."""
    return max(places, key=lambda place: place.mean)


def what_was_varied(rows: Sequence[Row]) -> str:
    """Say in a sentence what the grid's experiments are, and in what they differ."""
    places, varying = groups(rows), varying_axes(rows)
    seeds = len({seed for row in rows for seed in row.seeds})
    over = "one seed" if seeds == 1 else f"{seeds} seeds"
    if not varying:
        return f"{len(rows)} experiment{'s' * (len(rows) != 1)}: {over}."
    told = [_of_axis(axis, axis_values(rows, axis)) for axis in varying]
    return f"{len(rows)} experiments: {len(places)} places ({'; '.join(told)}), {over}."


def _of_axis(axis: str, values: Sequence[Any]) -> str:
    if len(values) > 2 * _MOST_NAMED:
        ends = f"{shortened(values[0])} to {shortened(values[-1])}"
        return f"{axis.replace('_', ' ')} {ends}, {len(values)} values"
    return f"{axis.replace('_', ' ')} {', '.join(map(shortened, values))}"


def interval_of_place(place: Group) -> str:
    """Write the interval of a place's test accuracy, and over what it is."""
    return f"95 % interval {interval(place.ci95)}, over {over_what(place.ci95_over, len(place.rows))}"


def not_as_claimed(places: Sequence[Group], varying: Sequence[str]) -> str:
    """Name the places whose verdict is another, a few of them; empty where there are none."""
    others = [place for place in places if place.verdict != "as claimed"]
    told = [
        f"{place_name(place.axes, varying)}: {verdict_label(place)}" if varying else verdict_label(place)
        for place in others[:_MOST_NAMED]
    ]
    if len(others) > len(told):
        told.append(f"{len(others) - len(told)} more in the table")
    return "; ".join(told)


def said_once(rows: Sequence[Row]) -> str:
    """Say the parts of the settings that all rows share; empty where they share none."""
    settings = [re.split(r", (?![^(]*\))", row.setting or "") for row in rows]
    return ", ".join(part for part in settings[0] if part and all(part in each for each in settings))


def main_axis(rows: Sequence[Row]) -> str | None:
    """Name the axis whose values are the lanes of the main figure; ``None`` where each place has a lane.

    It is the one along which mean accuracies differ most, of those that have few enough values.
    """
    varying = varying_axes(rows)
    if len(groups(rows)) <= _MOST_LANES or len(varying) < 2:
        return None
    fitting = [axis for axis in varying if len(axis_values(rows, axis)) <= _MOST_VALUES]

    def reach(axis: str) -> float:
        means = [over_other_axes(rows, axis, value)[0] for value in axis_values(rows, axis)]
        return max(means) - min(means)

    return max(fitting or varying, key=reach)


def lanes(rows: Sequence[Row]) -> list[Lane]:
    """Return the bars of the main figure: the places of a grid, or of many, the values of one axis."""
    axis = main_axis(rows)
    if axis is None:
        varying = varying_axes(rows)
        return _with_published([_of_place(place, varying) for place in groups(rows)], groups(rows))
    return [_of_value(rows, axis, value) for value in axis_values(rows, axis)]


def _of_place(place: Group, varying: Sequence[str]) -> Lane:
    return Lane(
        name=place_name(place.axes, varying) or place.rows[0].recipe,
        mean=place.mean,
        ci95=place.ci95,
        over=over_what(place.ci95_over, len(place.rows)),
        points=place.accuracies,
        chance=place.rows[0].chance,
        control=place.average("control_accuracy"),
        published=None,
    )


def _of_value(rows: Sequence[Row], axis: str, value: Any) -> Lane:
    """Take together what all places with one value on an axis reached."""
    here = [row for row in rows if row.axes[axis] == value]
    mean, ci95 = over_other_axes(rows, axis, value)
    controls = [row.control_accuracy for row in here if row.control_accuracy is not None]
    return Lane(
        name=place_name({axis: value}, [axis]),
        mean=mean,
        ci95=ci95,
        over=f"{len({row.axes['seed'] for row in here})} seeds",
        points=[row.test_accuracy for row in here],
        chance=here[0].chance,
        control=sum(controls) / len(controls) if controls else None,
        published=None,
    )


def _with_published(bars: Sequence[Lane], places: Sequence[Group]) -> list[Lane]:
    """Set each published figure beside the place whose setting differs least from its own.

    Of several, that is the one of the highest accuracy, which the report is about.
    """
    nearest: dict[tuple[float, str], int] = {}

    def distance(number: int) -> tuple[int, float]:
        return len(places[number].rows[0].published_differs), -places[number].mean

    for number, place in enumerate(places):
        row = place.rows[0]
        if row.published is None:
            continue
        figure = row.published.test_accuracy, row.published.setting
        nearest[figure] = min(nearest.get(figure, number), number, key=distance)
    beside = {number: figure for figure, number in nearest.items()}
    return [replace(bar, published=beside.get(number)) for number, bar in enumerate(bars)]
