"""Images of a function of the user's own: ``FILE.py:FUNCTION``, which yields images and labels.

It is called with those of ``split`` (``train`` or ``test``) and ``root`` (``data.root``) that it takes. A
plan reads all that it yields once, to hash it; where images are brought into the store it is called again,
and refused if it yields others then.
"""

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advfeat.data.images import LabelledImages, Readable, Splits
from advfeat.data.own_content import OwnContent, Pass, own_content
from advfeat.data.pixels import Pixels
from advfeat.data.read_once import was_read
from advfeat.data.refusal import refusal
from advfeat.data.split import given_or_held_out, given_or_held_out_sizes
from advfeat.data.yielded import Piece, yielded
from advfeat.errors import InputError, first_line
from advfeat.extensions import read_function
from advfeat.extensions.functions import function_of, is_provided
from advfeat.files.place import place_of
from advfeat.spec import LOCATED_SOURCES, DataSpec

_REMEDY = "yield images as uint8 or floats in [0, 1], and labels from 0 or names (docs/how-to/own-data.md)"
_OTHERS = "seed what is random, leave the files that it reads as they are, and run again"
_MOST_KEPT = 8

_Key = tuple[str, str | None, int | None]
_KEPT: dict[_Key, OwnContent] = {}
"""What functions yielded when they were last asked for all, by content of the function, root and size."""


def settled_source(field: str, name: str) -> str:
    """Return a function's name with its content behind an ``@``; raises ``InputError`` about ``field``."""
    if is_provided(name):
        return name
    kinds = {prefix.rstrip(":"): source for prefix, source in LOCATED_SOURCES.items()}
    near = difflib.get_close_matches(name.partition(":")[0], kinds, n=1, cutoff=0.7)
    try:
        return read_function(field, name).name
    except InputError as error:
        message = str(error).lower()
        if not near or ("no module" not in message and "not an installed module" not in message):
            raise
        raise InputError(field, name, "is unknown", f"did you mean {kinds[near[0]]}?") from error


class OwnSource:
    """What a function yields, in its order."""

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
        self._error = refusal(spec, _REMEDY)

    def identity(self) -> dict[str, Any]:
        """Read all images anew, and hash them and their labels; the function's name is no part of it."""
        return self._identity(self._fresh)

    def sizes(self) -> tuple[int, int]:
        """Count the training and the test images that have a label."""
        return given_or_held_out_sizes(self._content.labels.labels, self.spec.test_fraction)

    def image_shape(self) -> tuple[int, ...]:
        """Return channels, height and width."""
        return self._content.shape

    def class_count(self) -> int:
        """Count the classes that images are of."""
        return len(self._content.labels.classes)

    def class_names(self) -> tuple[str, ...]:
        """Name the classes: as the labels do, or by their numbers."""
        return self._content.labels.classes

    def told(self) -> tuple[str, ...]:
        """Read all images anew; say which splits and labels were chosen, and whether the images are dark."""
        return self._fresh.labels.told + self._fresh.pixels.told

    def left_out(self) -> dict[str, list[str]]:
        """List nothing: what has no label is told."""
        return {}

    def splits(self) -> Splits:
        """Return the images, for which the function is called when they are asked for."""
        content = self._content
        parts: list[Readable] = [
            _Repeated(labels, partial(self._again, split, content), content.pixels.white)
            for split, labels in zip(content.labels.names, content.labels.labels, strict=True)
        ]
        return given_or_held_out(parts, content.labels.classes, self.spec.test_fraction)

    def check_unchanged(self, identity: Mapping[str, Any]) -> None:
        """Refuse a function that is not at hand, or whose images are others; runs no file for it."""
        function_of(self.spec.source)
        if self._identity(self._content) != identity and self._identity(self._fresh) != identity:
            raise self._others("yields other images than when the run was planned")

    def _identity(self, content: OwnContent) -> dict[str, Any]:
        identity: dict[str, Any] = dict(content.sha256)
        if len(content.sha256) == 1:
            identity["test_fraction"] = self.spec.test_fraction
        if content.labels.renumbered:
            identity["classes"] = list(content.labels.classes)
        if not content.are_bytes:
            identity["white"] = content.pixels.white
        if self.spec.image_size is not None:
            identity["image_size"] = self.spec.image_size
        return {"function": identity}

    @cached_property
    def _name(self) -> str:
        return settled_source("data.source", self.spec.source)

    @cached_property
    def _root(self) -> str | None:
        if self.spec.root is None:
            return None
        try:
            return place_of(self.spec.root).uri
        except (ValueError, ImportError) as error:
            problem = f"is not a place ({first_line(error)})"
            raise InputError("data.root", self.spec.root, problem, "name a folder or a URI") from None

    @property
    def _key(self) -> _Key:
        return self._name, self._root, self.spec.image_size

    @property
    def _content(self) -> OwnContent:
        return _KEPT.get(self._key) or self._fresh

    @cached_property
    def _fresh(self) -> OwnContent:
        """What the function yields now; files that it reads may be others than when it was last asked."""
        if was_read(self._key) and self._key in _KEPT:
            return _KEPT[self._key]
        takes = self._parameters
        splits = ("train", "test") if "split" in takes else ("all",)
        content = own_content(
            {split: partial(self._pieces, split) for split in splits}, self._error, self.spec.source
        )
        for split in content.labels.names:
            self._check_begins_alike(content, split)
        _KEPT.pop(self._key, None)
        _KEPT[self._key] = content
        while len(_KEPT) > _MOST_KEPT:
            del _KEPT[next(iter(_KEPT))]
        return content

    @cached_property
    def _function(self) -> Callable[..., Any]:
        return function_of(self._name)

    @cached_property
    def _parameters(self) -> set[str]:
        """Which of ``split`` and ``root`` the function is given."""
        try:
            found = inspect.signature(self._function).parameters
        except (TypeError, ValueError):
            return set()
        takes_all = any(each.kind is each.VAR_KEYWORD for each in found.values())
        takes = {"split", "root"} if takes_all else found.keys() & {"split", "root"}
        if self._root is not None and "root" not in takes:
            problem = f"is given, and {self._name} takes no root"
            raise InputError("data.root", self.spec.root, problem, "leave it out")
        if self._root is None and "root" in found and found["root"].default is inspect.Parameter.empty:
            raise InputError("data.root", None, f"is unset, and {self._name} takes a root", "set it")
        return takes if self._root is not None else takes - {"root"}

    def _pieces(self, split: str) -> Iterator[Piece]:
        takes = self._parameters
        given = {name: value for name, value in (("split", split), ("root", self._root)) if name in takes}

        def refused(problem: str, remedy: str) -> InputError:
            return InputError("data.source", self.spec.source, problem, remedy)

        return yielded(self._function, given, self.spec, refused)

    def _again(self, split: str, content: OwnContent) -> Iterator[NDArray[Any]]:
        """Yield all images once more; raises ``InputError`` at the end if anything was another one."""
        once_more = Pass(self._error)
        yield from once_more.images(self._pieces(split))
        if once_more.sha256 != content.sha256[split]:
            _KEPT.pop(self._key, None)  # whoever asks next is answered anew
            raise self._others("yields other images than when the run was planned")

    def _check_begins_alike(self, content: OwnContent, split: str) -> None:
        """Refuse a function that draws anew at each call, as far as its first images tell."""
        beginning = Pass(self._error)
        next(beginning.images(self._pieces(split)), None)
        if beginning.sha256 != content.beginnings[split]:
            raise self._others("yields other images at each call")

    def _others(self, problem: str) -> InputError:
        return InputError("data.source", self.spec.source, problem, _OTHERS)


@dataclass(frozen=True)
class _Repeated:
    """Images that ``read`` yields again, to its end whichever rows are asked for: there it is compared."""

    labels: NDArray[np.int64]
    read: Callable[[], Iterator[NDArray[Any]]]
    white: int

    def pieces(self, rows: NDArray[np.int64], size: int) -> Iterator[LabelledImages]:
        """Read the chosen rows, which are ascending, ``size`` of them at a time, and compare all."""
        images = self.read()
        yield from Pixels(self.labels, lambda: images, self.white).pieces(rows, size)
        for _ in images:
            pass
