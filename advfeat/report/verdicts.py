"""Verdict lines: what a claim predicts, what was seen, and whether that bears it out."""

from collections import Counter
from collections.abc import Hashable, Sequence

from advfeat.report.controls import control
from advfeat.report.correlation import Correlation
from advfeat.report.groups import Group
from advfeat.report.numbers import correlation, percent
from advfeat.report.rows import Row
from advfeat.report.transfer import TransferMatrix
from advfeat.report.verdict import LEAST_SUCCESS, MOST_IMAGES, ONE_SEED, Verdict, highest_of_no_lesson


def claimed(row: Row) -> str:
    """Say what is claimed of a recipe, and why."""
    robustness = {None: "", True: ", robustness too", False: ", but no robustness"}[row.robust]
    return f"it {'teaches' if row.teaches else 'does not teach'}{robustness}, as {row.claim}"


def predicted(row: Row) -> str:
    """Say what accuracy the claim predicts, and under attack, where it says something of that."""
    one_seed = row.ci95_over == "test images" and not row.axes  # a place of a grid has the seeds of many rows
    return _predicted(row, [row.chance], one_seed)


def predicted_of_places(places: Sequence[Group]) -> str:
    """Say it of the places of a grid, whose chances may differ."""
    one_seed = any(place.ci95_over == "test images" for place in places)
    return _predicted(places[0].rows[0], [place.rows[0].chance for place in places], one_seed)


def _predicted(row: Row, chances: Sequence[float], one_seed: bool) -> str:
    chance = _from_to(chances)
    most = _from_to([highest_of_no_lesson(chance) for chance in chances])
    if row.teaches:
        accuracy = f"above chance ({chance}{f'; one seed: above {most}' if one_seed else ''})"
    else:
        accuracy = f"chance ({chance}) or less, in any case below {most}"
    if row.robust is None:
        return accuracy
    robust = f"{'above' if row.robust else 'below'} chance{_ordinary(row)}"
    return f"{accuracy}; under attack {robust}{_published(row)}"


def _from_to(shares: Sequence[float]) -> str:
    lowest, highest = percent(min(shares)), percent(max(shares))
    return lowest if lowest == highest else f"{lowest} to {highest}, by place"


def _ordinary(row: Row) -> str:
    kept = row.ordinary_robust_accuracy
    return f" and above clean ({percent(kept)})" if row.robust and kept is not None else ""


def _published(row: Row) -> str:
    found = row.published
    if found is None or found.robust_accuracy is None:
        return ""
    return f" (published: {percent(found.robust_accuracy)}, {found.robust_setting})"


def seen(row: Row) -> str:
    """Say what accuracy was seen, with its interval, whom the examples fool, and what the control reached."""
    found = _with_interval(row.test_accuracy, row.ci95, row.ci95_over)
    if row.robust is not None:
        found += f"; under attack {_robustness(row)}"
    if row.attack_success is not None:
        note = f" ({row.attack_note})" if row.attack_note is not None else ""
        found += f", attack success {percent(row.attack_success)}{note}"
    if row.transfer_rate is not None:
        found += f", transfer rate {percent(row.transfer_rate)}"
    if row.permuted_accuracy is not None:
        found += f", {percent(row.permuted_accuracy)} of the test images predicted as the permuted class"
    if row.points_right is not None:
        found += f", {percent(row.points_right)} of the original points right"
    if row.control_accuracy is not None:
        found += f", control {control(row)}"
    return found


def verdict_parts(found: Row | Group) -> tuple[str, ...]:
    """Say the verdict on each part of a claim; none where it has one part."""
    if found.robust is None:
        return ()
    robustness = found.robustness_verdict or "not measured"
    return f"accuracy: {found.accuracy_verdict}", f"robustness: {robustness}"


def verdict_label(found: Row | Group) -> str:
    """Say the verdict in a few words: of what one seed cannot decide, that it is one."""
    return f"{ONE_SEED}: open" if _one_seed_open(found) else found.verdict


def success_lines(found: Row | Group) -> tuple[str, ...]:
    """Write the attack success of a row, or of a place of a grid, and below it what is said of it."""
    success = found.attack_success if isinstance(found, Row) else found.average("attack_success")
    return (percent(success), *([] if found.attack_note is None else [found.attack_note]))


def judged(row: Row) -> str:
    """Say the verdict with its reason, and that on each part of the claim."""
    reason = () if row.verdict_reason is None or _one_seed_open(row) else (row.verdict_reason,)
    further = "; ".join([*reason, *verdict_parts(row)])
    return f"{verdict_label(row)} ({further})" if further else verdict_label(row)


def reasons(found: Sequence[Row | Group]) -> list[str]:
    """Say in a line each where claims were not tested, attacks weak, and what one seed leaves open."""
    lines = []
    if any(each.verdict == "not tested" for each in found):
        least = percent(LEAST_SUCCESS)
        lines.append(f"Not tested: the attack succeeded on less than {least} of the images.")
    if any(each.attack_note is not None for each in found):
        least = percent(MOST_IMAGES)
        lines.append(
            f"Attack success below {least}: the source model does not see in the other images what their "
            "labels say."
        )
    if any(map(_one_seed_open, found)):
        lines.append("One seed: the interval does not cover other seeds; run three or more to decide.")
    return lines


_WORDS: tuple[Verdict, ...] = ("contrary", "open", "not tested")


def verdict_summary(found: Sequence[Row | Group]) -> str:
    """Count verdicts: ``18 of 19 as claimed, 1 open``; rows that are the same experiment count once."""
    verdicts = {_experiment(each, place): each.verdict for place, each in enumerate(found)}
    count = Counter(verdicts.values())
    others = [f"{count[word]} {word}" for word in _WORDS if count[word]]
    return ", ".join([f"{count['as claimed']} of {len(verdicts)} as claimed", *others])


_THE_EXPERIMENT = (
    "seeds",
    "setting",
    "teaches",
    "robust",
    "test_accuracies",
    "class_accuracies",
    "attack_success",
    "calibration_error",
)
"""Fields in which two rows of one report are alike only if they are the same experiment, as those of
``transfer`` and ``d_det`` are: it learns from the other's data set."""


def _experiment(found: Row | Group, place: int) -> Hashable:
    """Return what tells experiments apart; each place of a grid is one of its own."""
    if isinstance(found, Group) or found.axes:
        return place
    return tuple(getattr(found, field) for field in _THE_EXPERIMENT)


def _one_seed_open(found: Row | Group) -> bool:
    return found.verdict == "open" and found.verdict_reason == ONE_SEED


def verdict_line(row: Row) -> str:
    """Say all of it in a line."""
    return f"{claimed(row)}. Predicted: {predicted(row)}. Seen: {seen(row)}. Verdict: {judged(row)}."


def correlation_lines(matrix: TransferMatrix) -> list[str]:
    """Say of each source's examples whether architectures that fall for more learn more from them."""
    if matrix.verdicts is None:
        return []
    return [
        f"Claim: of the examples made with {source}, architectures that are fooled by more learn more. "
        f"Predicted: r above 0. Seen: {_correlated(found)}. Verdict: {verdict}."
        for source, found, verdict in zip(matrix.sources, matrix.by_source, matrix.verdicts, strict=True)
    ]


def _correlated(found: Correlation | None) -> str:
    """Write a correlation with its interval, or why there is none."""
    if found is None:
        return "too few architectures, or all alike"
    return correlation(found) + ("" if found.ci95 else ", an interval needs four")


def _robustness(row: Row) -> str:
    if row.robust_accuracy is None or row.robust_ci95 is None:
        return "not measured"
    return _with_interval(row.robust_accuracy, row.robust_ci95, row.ci95_over)


def _with_interval(accuracy: float, ci95: tuple[float, float], over: str) -> str:
    low, high = ci95
    return f"{percent(accuracy)} (95 % interval over {over}: {percent(low)} to {percent(high)})"
