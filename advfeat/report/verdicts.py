"""Verdict lines: what a claim predicts, what was seen, and whether that bears it out."""

from advfeat.report.controls import control
from advfeat.report.numbers import percent
from advfeat.report.rows import Row
from advfeat.verdict import highest_of_no_lesson


def claimed(row: Row) -> str:
    """Say what is claimed of a recipe, and why."""
    return f"it {'teaches' if row.teaches else 'does not teach'}, as {row.claim}"


def predicted(row: Row) -> str:
    """Say what accuracy the claim predicts."""
    chance = percent(row.chance)
    if row.teaches:
        return f"above chance ({chance})"
    return f"chance ({chance}) or less, at any rate below {percent(highest_of_no_lesson(row.chance))}"


def seen(row: Row) -> str:
    """Say what accuracy was seen, with its interval, whom the examples fool, and what the control reached."""
    low, high = row.ci95
    interval = f"95 % interval over {row.ci95_over}: {percent(low)} to {percent(high)}"
    found = f"{percent(row.test_accuracy)} ({interval})"
    if row.attack_success is not None:
        found += f", attack success {percent(row.attack_success)}"
    if row.transfer_rate is not None:
        found += f", transfer rate {percent(row.transfer_rate)}"
    if row.points_right is not None:
        found += f", {percent(row.points_right)} of the original points right"
    if row.control_accuracy is not None:
        found += f", control {control(row)}"
    return found


def verdict_line(row: Row) -> str:
    """Say all of it in a line."""
    return f"{claimed(row)}. Predicted: {predicted(row)}. Seen: {seen(row)}. Verdict: {row.verdict}."
