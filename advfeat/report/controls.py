"""What a recipe's claims are held against, out of the same report: its control, and ordinary training."""

from collections.abc import Sequence

from advfeat.planning import Experiment
from advfeat.recipes import RECIPES
from advfeat.report.numbers import percent
from advfeat.report.rows import Row
from advfeat.report.verdict import robustness_verdict, verdict_of_parts


def with_controls(rows: Sequence[Row], experiment: Experiment) -> list[Row]:
    """Fill in what controls reach, and judge robustness against what ordinary training on the images has.

    A row without a control in the report, or whose control was made in another way, stays as it is.
    """
    found = {row.recipe: row for row in rows}
    return [_beside_ordinary(_beside_control(row, found, experiment), found, experiment) for row in rows]


Rows = dict[str, Row]


def _beside_control(row: Row, rows: Rows, experiment: Experiment) -> Row:
    if row.control not in rows or not _made_alike(row.recipe, row.control, experiment):
        return row
    return row.model_copy(update={"control_accuracy": rows[row.control].test_accuracy})


def _made_alike(name: str, other: str, experiment: Experiment) -> bool:
    """Whether two recipes have the same attack and the same source model, as far as both have one."""
    recipe, held_against = (RECIPES[experiment.named(each)] for each in (name, other))
    shared = ["attack"] if recipe.attacks and held_against.attacks else []
    if recipe.source is not None and recipe.source == held_against.source:
        shared.append(recipe.source)
    one, another = experiment.of(name), experiment.of(other)
    return all(getattr(one, field) == getattr(another, field) for field in shared)


def _beside_ordinary(row: Row, rows: Rows, experiment: Experiment) -> Row:
    """Judge a claim of robustness against ``clean`` too, where the report has it in the same setting."""
    if row.robust is None or "clean" not in rows:
        return row
    one, ordinary = experiment.of(row.recipe), experiment.of("clean")
    if (one.target, one.evaluation) != (ordinary.target, ordinary.evaluation):
        return row
    kept = rows["clean"].robust_accuracy
    of_robustness = robustness_verdict(row.robust, row.robust_ci95, row.chance, kept)
    return row.model_copy(
        update={
            "ordinary_robust_accuracy": kept,
            "robustness_verdict": of_robustness,
            "verdict": verdict_of_parts(row.accuracy_verdict or row.verdict, of_robustness),
        }
    )


def control(row: Row) -> str:
    """Write what the control reaches, and which it is; a dash where the report has none."""
    if row.control_accuracy is None:
        return percent(None)
    return f"{percent(row.control_accuracy)} {row.control or 'unperturbed'}"
