"""Checks what the functions of a user's own recipe return, where they are called.

What is wrong is told with the line of the recipe's file: a label beyond the classes, or an image outside of
the ball, would be learned from in silence.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from inspect import unwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from advfeat.errors import AdvfeatError, InputError
from advfeat.extensions.functions import told_of
from advfeat.recipes.shared.recipe import DROPPED, Given, Labels, Making, Recipe

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDING = 1e-3
"""By which share of eps a perturbation may be longer than the ball is wide."""


def with_checked_answers(recipe: Recipe[Any]) -> Recipe[Any]:
    """Return the recipe with functions that raise ``InputError`` where they fail or answer wrongly."""
    return replace(
        recipe,
        relabel=_checked(recipe, recipe.relabel, _check_labels),
        sample=recipe.sample and _checked(recipe, recipe.sample, _check_rows),
        make=recipe.make and _checked(recipe, _of_a_copy(recipe.make), _check_images),
        drawn=recipe.drawn and _checked(recipe, recipe.drawn, _check_drawn),
        missing=_checked(recipe, recipe.missing, _check_complaint),
        in_words=_checked(recipe, recipe.in_words, _check_words),
        passes=_checked(recipe, recipe.passes, _check_passes),
    )


Check = Callable[..., str | None]
"""Tells what is wrong with an answer, from it and from what was asked."""


def _checked(recipe: Recipe[Any], function: Callable[..., Any], check: Check | None = None) -> Any:
    @wraps(function)
    def answer(*asked: Any) -> Any:
        try:
            found = function(*asked)
        except AdvfeatError:
            raise
        except (Exception, SystemExit) as error:
            raise _refused(recipe, f"fails: {told_of(error)}") from error
        problem = None if check is None else check(recipe, found, *asked)
        if problem is not None:
            raise _refused(recipe, f"{getattr(function, '__name__', 'it')} {problem}{_place(function)}")
        return found

    return answer


def _place(function: Callable[..., Any]) -> str:
    """Return where a function stands, for the end of a message."""
    code = getattr(unwrap(function), "__code__", None)
    return "" if code is None else f" ({code.co_filename}, line {code.co_firstlineno})"


def _of_a_copy(make: Callable[[Making[Any]], "Tensor"]) -> Callable[[Making[Any]], "Tensor"]:
    """Return the function, given images that it may change: what it did is told from the originals."""

    @wraps(make)
    def made(making: Making[Any]) -> "Tensor":
        return make(replace(making, originals=making.originals.clone()))

    return made


def _refused(recipe: Recipe[Any], problem: str) -> InputError:
    return InputError("recipes", recipe.identity, problem, "correct it")


def _check_labels(_: Recipe[Any], labels: Labels, given: Given[Any]) -> str | None:
    if (wrong := _no_whole_numbers(labels)) is not None:
        return wrong
    if labels.shape != given.labels.shape:
        return f"returns {_shape(labels)} labels, not one for each of {len(given.labels):,} images"
    outside = labels[(labels < DROPPED) | (labels >= given.classes)]
    if len(outside):
        return f"returns the label {outside[0]}, which is not one of 0 to {given.classes - 1}, nor DROPPED"
    return None


def _check_rows(_: Recipe[Any], rows: NDArray[np.int64], given: Given[Any], labels: Labels) -> str | None:
    if (wrong := _no_whole_numbers(rows)) is not None:
        return wrong
    if rows.ndim != 1 or (np.diff(rows) < 0).any():
        return "returns rows that do not ascend"
    if len(rows) and not 0 <= rows[0] <= rows[-1] < len(given.labels):
        return f"returns the rows {rows[0]} to {rows[-1]} of 0 to {len(given.labels) - 1:,}"
    if (labels[rows] == DROPPED).any():
        return "returns a row whose label is DROPPED"
    return None


def _no_whole_numbers(found: object) -> str | None:
    if not isinstance(found, np.ndarray):
        return f"returns {type(found).__name__}, not an array of NumPy"
    return None if found.dtype.kind in "iu" else f"returns {found.dtype}, not whole numbers"


def _check_images(recipe: Recipe[Any], made: "Tensor", making: Making[Any]) -> str | None:
    import torch

    from advfeat.attacks import BALLS

    if not isinstance(made, torch.Tensor) or made.dtype != torch.float32:
        return f"returns {getattr(made, 'dtype', type(made).__name__)}, not a tensor of float32"
    if made.requires_grad or made.device.type != "cpu":
        return "returns a tensor that requires a gradient, or is not in main memory: .detach().cpu()"
    if made.shape != making.originals.shape:
        return f"returns images of {_shape(made)}, not {_shape(making.originals)}"
    if not ((made >= 0) & (made <= 1)).all():  # NaN is neither
        return "returns pixels that are not in [0, 1]"
    if recipe.attacks and making.attack is not None:
        attack = making.attack
        longest = float(BALLS[attack.norm].length(made.double() - making.originals.double()).max())
        if longest > attack.eps * (1 + _ROUNDING):
            return f"moves an image by {longest:.4g} in {attack.norm}, further than eps {attack.eps:g}"
    return None


def _check_drawn(
    _: Recipe[Any], drawn: object, _settings: object, shape: tuple[int, ...], *_others: Any
) -> str | None:
    if not isinstance(drawn, np.ndarray) or drawn.dtype != np.float32:
        return f"returns {getattr(drawn, 'dtype', type(drawn).__name__)}, not an array of float32"
    if drawn.shape != tuple(shape):
        return f"returns an image of {_shape(drawn)}, not {' x '.join(map(str, shape))}"
    return None if ((drawn >= 0) & (drawn <= 1)).all() else "returns pixels that are not in [0, 1]"


def _check_complaint(_: Recipe[Any], told: object, _experiment: object) -> str | None:
    return None if told is None or isinstance(told, str) else f"returns {told!r}, neither a text nor None"


def _check_words(_: Recipe[Any], told: object, _settings: object) -> str | None:
    return None if isinstance(told, str) else f"returns {told!r}, not a text"


def _check_passes(_: Recipe[Any], told: object, _experiment: object) -> str | None:
    return None if isinstance(told, int) and told >= 0 else f"returns {told!r}, not a whole number from 0"


def _shape(found: Any) -> str:
    return " x ".join(map(str, found.shape)) or "no"
