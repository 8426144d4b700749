"""Figures of the user's own: functions of a target model and its test set that return numbers by name."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from advfeat.errors import InputError
from advfeat.extensions import read_function
from advfeat.extensions.functions import called, function_of, is_provided
from advfeat.models import Normalized, as_pixels, build

_MOST_FIGURES = 100
_FIGURE = re.compile(r"[\w .,%()/+-]{1,60}")
"""A name that is a heading of a table."""


def settled_measure(name: str) -> str:
    """Return the name of a function with its content behind an ``@``; raises ``InputError``."""
    return name if is_provided(name) else read_function("measures", name).name


def measured(
    names: Sequence[str],
    networks: Callable[[], tuple[Normalized, Normalized | None]],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
) -> dict[str, float]:
    """Return all figures of some functions, by their names; raises ``InputError`` about ``measures``.

    Each function is called with those of ``target_model``, ``source_model`` (None where there is none),
    ``images`` (float32 (N, C, H, W) in [0, 1]) and ``labels`` (int64 (N,)) that it takes, all its own:
    ``networks`` returns others each time, in evaluation mode.
    """
    found: dict[str, float] = {}
    for name in names:
        target_model, source_model = networks()
        given = {
            "target_model": target_model,
            "source_model": source_model,
            "images": as_pixels(torch.from_numpy(images)),
            "labels": torch.from_numpy(labels).clone(),
        }
        figures = _figures(name, called(function_of(name), _refusal(name), given))
        if twice := found.keys() & figures.keys():
            raise _refusal(name)(f"returns {min(twice)!r}, as another does", "give each figure its own name")
        found |= figures
    return found


@cache
def check_measures(
    names: tuple[str, ...],
    model: str,
    width: int,
    image_shape: tuple[int, ...],
    classes: int,
    with_source: bool,
) -> None:
    """Try functions on an untrained network and noise; raises ``InputError`` about ``measures``.

    Two images are of each class.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2 * classes, *image_shape), generator=generator, dtype=torch.uint8)

    def untrained(seed: int) -> Normalized:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(model, width=width, image_shape=image_shape, classes=classes).eval()

    def networks() -> tuple[Normalized, Normalized | None]:
        return untrained(0), untrained(1) if with_source else None

    measured(names, networks, images.numpy(), np.arange(2 * classes) % classes)


def _refusal(name: str) -> Callable[[str, str], InputError]:
    return lambda problem, remedy: InputError("measures", name, problem, remedy)


def _figures(name: str, returned: Any) -> dict[str, float]:
    refused = _refusal(name)
    if not isinstance(returned, Mapping) or not returned:
        raise refused(f"returns {type(returned).__name__}", "return a dict: names and their numbers")
    if len(returned) > _MOST_FIGURES:
        raise refused(f"returns {len(returned)} figures", f"return at most {_MOST_FIGURES}")
    figures = {}
    for figure, value in returned.items():
        if not isinstance(figure, str) or _FIGURE.fullmatch(figure) is None:
            raise refused(
                f"returns a figure named {figure!r}", "name it by up to 60 letters, digits and spaces"
            )
        try:
            figures[figure] = float(value.detach() if isinstance(value, torch.Tensor) else value)
        except (TypeError, ValueError, RuntimeError):
            raise refused(f"returns {figure} as {type(value).__name__}", "return a number") from None
        if not math.isfinite(figures[figure]):
            raise refused(f"returns {figure} as {figures[figure]}", "return a number that is finite")
    return figures
