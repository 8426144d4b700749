"""The rows of a report as a pandas table, one line a recipe, or in a grid one a point."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from advfeat.report.rows import Row

_INNER = {"ci95", "robust_ci95", "published", "cost", "axes", "wilson_ci95", "measures"}


def rows_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Return the rows as a table. Accuracies, shares, success and intervals are fractions in [0, 1].

    Columns are the fields of ``advfeat.report.rows.Row`` by their names, but for what is nested:
    ``ci95_low`` and ``ci95_high`` (95 % interval of ``test_accuracy``), ``robust_ci95_low`` and
    ``robust_ci95_high``, ``published_accuracy``, ``published_setting`` and ``published_source``, and
    ``cost_seconds``, ``core_hours`` and ``cost_bytes``. In a grid there is a column for each axis too:
    ``eps`` and ``source_eps`` in [0, 1] pixel units, ``seed``, ``steps``, … Figures of the user's own have
    columns by their names, behind ``measures.`` where another has that name.
    """
    return pd.DataFrame.from_records([_flat(row) for row in rows])


def _flat(row: Row) -> dict[str, Any]:
    low, high = row.ci95
    robust_low, robust_high = row.robust_ci95 or (None, None)
    published, cost = row.published, row.cost
    plain = {name: value for name, value in row if name not in _INNER}
    first = ("recipe", "test_accuracy")
    return {
        **{name: plain.pop(name) for name in first},
        "ci95_low": low,
        "ci95_high": high,
        **{axis: value for axis, value in row.axes.items() if axis not in plain},
        **plain,
        **{_own_column(name, plain): value for name, value in row.measures.items()},
        "attack_note": row.attack_note,
        "difference": row.difference,
        "robust_ci95_low": robust_low,
        "robust_ci95_high": robust_high,
        "published_accuracy": None if published is None else published.test_accuracy,
        "published_setting": None if published is None else published.setting,
        "published_source": None if published is None else published.source,
        "cost_seconds": None if cost is None else cost.seconds,
        "core_hours": None if cost is None else cost.core_hours,
        "cost_bytes": None if cost is None else cost.bytes,
    }


def _own_column(name: str, columns: Iterable[str]) -> str:
    return f"measures.{name}" if name in {*columns, *Row.model_fields} else name
