"""Whether what was measured bears out what is said of a recipe, and whether it was put to the test at all."""

from typing import Literal, NamedTuple

from advfeat.report.numbers import percent

Verdict = Literal["as claimed", "contrary", "open", "not tested"]
Interval = tuple[float, float]

LEAST_SUCCESS = 0.5
"""Share of the images that an attack has to change the network's mind on: with less it failed."""
MOST_IMAGES = 0.9
"""Share of the images that an attack is expected to change the network's mind on: less is told beside it."""
ONE_SEED = "one seed"

_FIRST_TO_LAST: tuple[Verdict, ...] = ("contrary", "not tested", "open", "as claimed")
"""Which part's verdict is that of a claim of two parts."""


class Judgement(NamedTuple):
    """A verdict, and in a few words why it is no other, where the interval alone does not say that."""

    verdict: Verdict
    reason: str | None = None


def highest_of_no_lesson(chance: float) -> float:
    """Return what the accuracy of a recipe that does not teach stays below, with its whole interval.

    That is twice chance, but at most a tenth of the way from chance to 1: twice the chance of two classes
    is 1, which every accuracy stays below. All are fractions.
    """
    return min(2 * chance, chance + 0.1 * (1 - chance))


def accuracy_verdict(
    teaches: bool,
    ci95: Interval,
    chance: float,
    *,
    attack_success: float | None = None,
    one_seed: bool = False,
) -> Judgement:
    """Hold the claim that a recipe teaches, or does not, against the 95 % interval of the test accuracy.

    One that teaches is above chance with its whole interval, one that does not is below
    ``highest_of_no_lesson`` with its whole interval, which holds chance or lies below. Wider intervals leave
    it open. The interval over the test images of one seed knows nothing of other seeds: above, then, is above
    ``highest_of_no_lesson``, and what lies below chance leaves open whether it teaches. Where an attack
    failed, the claim is not tested, unless the network learned what it was claimed to learn all the same.
    All are fractions.
    """
    low, high = ci95
    most = highest_of_no_lesson(chance)
    above = low > (most if one_seed else chance)
    if teaches:
        found: Verdict = "as claimed" if above else "contrary" if high < chance and not one_seed else "open"
    else:
        found = "contrary" if above else "as claimed" if high < most else "open"
    if attack_success is not None and attack_success < LEAST_SUCCESS and not (teaches and above):
        return Judgement("not tested", _failed("attack success", attack_success))
    return _with_seeds(found, one_seed)


def robustness_verdict(
    robust: bool | None,
    ci95: Interval | None,
    chance: float,
    ordinary: float | None = None,
    *,
    attack_success: float | None = None,
    one_seed: bool = False,
) -> Judgement | None:
    """Hold the claim that a recipe teaches robustness, or none, against the interval of the robust accuracy.

    A network that calls all images the same is right on chance of them under any attack; more takes features
    that withstand it, and in a small ball ordinary training learns some: ``ordinary`` is what remains of it
    under the same attack, where that is known. So what teaches robustness is above both with its whole
    interval, what teaches none is below chance with its whole interval; of one seed, ``highest_of_no_lesson``
    stands for chance above where nothing ordinary of that seed is known, and below means below half of the
    bar. ``attack_success`` is the share
    of the images that ordinary training gets right and the attack turns: where the attack failed there, only
    what is as claimed was tested. All are fractions. ``None`` where nothing is claimed of robustness, or
    where it was not measured.
    """
    if robust is None or ci95 is None:
        return None
    (low, high), kept = ci95, (ordinary or 0) if robust else 0
    alone = one_seed and (ordinary is None or not robust)
    above = low > max(highest_of_no_lesson(chance) if alone else chance, kept)
    below = high < max(chance, kept) / (2 if one_seed else 1)
    if not (above or below):
        found: Verdict = "open"
    else:
        found = "as claimed" if above == robust else "contrary"
    if attack_success is not None and attack_success < LEAST_SUCCESS and found != "as claimed":
        return Judgement("not tested", _failed("attack success on clean", attack_success))
    return _with_seeds(found, one_seed)


def correlation_verdict(ci95: Interval | None) -> Verdict:
    """Hold the claim that two measures rise together against the 95 % interval of their correlation.

    It is open where there are too few points for an interval.
    """
    if ci95 is None:
        return "open"
    low, high = ci95
    return "as claimed" if low > 0 else "contrary" if high < 0 else "open"


def verdict_of_parts(accuracy: Judgement, robustness: Judgement | None) -> Judgement:
    """Judge a claim by its parts: contrary if one is, else not tested, else open; as claimed if both are.

    Where there is no verdict on robustness, that on accuracy is the claim's.
    """
    parts = [accuracy] if robustness is None else [accuracy, robustness]
    return min(parts, key=lambda part: _FIRST_TO_LAST.index(part.verdict))


def _with_seeds(found: Verdict, one_seed: bool) -> Judgement:
    return Judgement(found, ONE_SEED if one_seed and found == "open" else None)


def _failed(what: str, success: float) -> str:
    return f"{what} {percent(success)}, {_below(LEAST_SUCCESS)}"


def attack_note(success: float | None) -> str | None:
    """Say that an attack changed the network's mind on fewer images than expected; ``None`` if it did not.

    ``success`` is a fraction, ``None`` where there was no attack, or none that is meant to succeed.
    """
    return _below(MOST_IMAGES) if success is not None and success < MOST_IMAGES else None


def _below(share: float) -> str:
    return f"below {100 * share:.0f} %"
