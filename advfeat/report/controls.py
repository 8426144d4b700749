"""What a recipe's claims are held against, out of the same report: its control, and ordinary training."""

from collections.abc import Sequence

from advfeat.planning import Experiment
from advfeat.recipes import RECIPES
from advfeat.report.numbers import percent
from advfeat.report.rows import Row
from advfeat.report.verdict import accuracy_verdict, robustness_verdict, verdict_of_parts


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
    clean, one_seed = rows["clean"], row.ci95_over == "test images"
    success = row.attack_success if row.needs_success else None
    of_accuracy = accuracy_verdict(
        row.teaches, row.ci95, row.chance, attack_success=success, one_seed=one_seed
    )
    of_robustness = robustness_verdict(
        row.robust,
        row.robust_ci95,
        row.chance,
        clean.robust_accuracy,
        attack_success=_turned(clean),
        one_seed=one_seed,
    )
    whole = verdict_of_parts(of_accuracy, of_robustness)
    return row.model_copy(
        update={
            "ordinary_robust_accuracy": clean.robust_accuracy,
            "robustness_verdict": of_robustness and of_robustness.verdict,
            "verdict": whole.verdict,
            "verdict_reason": whole.reason,
        }
    )


def _turned(clean: Row) -> float | None:
    """Return the share of the images that ordinary training gets right and the evaluation's attack turns."""
    if clean.robust_accuracy is None or not clean.test_accuracy:
        return None
    return 1 - clean.robust_accuracy / clean.test_accuracy


def control(row: Row) -> str:
    """Write what the control reaches, and which it is; a dash where the report has none."""
    if row.control_accuracy is None:
        return percent(None)
    return f"{percent(row.control_accuracy)} {row.control or 'unperturbed'}"
