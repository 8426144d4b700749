"""Labels as files give them -> classes numbered from 0 without gaps, and the splits that have labels.

A label of -1, or none at all, marks an image that nobody labelled: it is left out. Numbers with gaps, such as
1 to n, and names without images would make classes that nothing is ever of, and that a recipe could draw as
its target: such are taken out, and the others keep their names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advfeat.data.refusal import Refusal, checked_labels, listed

UNLABELLED = -1


@dataclass(frozen=True)
class GivenLabels:
    """The labels of a split: int64 (N,), ``UNLABELLED`` where there is none.

    ``names`` are those of 0, 1, …, if the files tell them; ``of_text`` says that the labels themselves were
    names, so that the numbers mean nothing without them.
    """

    numbers: NDArray[np.int64]
    names: tuple[str, ...] = ()
    of_text: bool = False

    @property
    def used(self) -> NDArray[np.int64]:
        """The numbers that label an image, ascending."""
        return np.unique(self.numbers[self.numbers != UNLABELLED])


@dataclass(frozen=True)
class LabelledSplits:
    """The splits that are read, by name: ``train`` and what tests, or one that a share is held out of.

    ``labels`` are numbered alike, ``UNLABELLED`` where there is none. ``renumbered`` tells whether numbers
    or classes are other ones than the files', ``told`` what was chosen, each in a predicate.
    """

    names: tuple[str, ...]
    labels: tuple[NDArray[np.int64], ...]
    classes: tuple[str, ...]
    renumbered: bool
    told: tuple[str, ...]


def labelled_splits(given: Mapping[str, Callable[[], GivenLabels]], refused: Refusal) -> LabelledSplits:
    """Choose the splits and number their labels.

    ``given`` has ``train`` with or without ``test`` and ``val``, or ``all``. Where no test image is
    labelled, validation takes its place; without one, a share of ``train`` is to be held out.
    Raises ``InputError`` if a split has a class that no training image is of.
    """
    if "train" not in given:
        return _numbered(["all"], [given["all"]()], refused, [])
    tests = ((name, given[name]()) for name in ("test", "val") if name in given)
    test = next(((name, labels) for name, labels in tests if len(labels.used)), None)
    if test is None:
        line = "has no labelled test split: a share of the training images is held out (data.test_fraction)"
        return _numbered(["train"], [given["train"]()], refused, [line])
    name, labels = test
    told = []
    if name == "val":
        told.append("has no labelled test split: validation takes its place")
    elif "val" in given:
        told.append("leaves out validation, as there is a labelled test split")
    return _numbered(["train", name], [given["train"](), labels], refused, told)


def array_labels(values: NDArray[Any], refused: Refusal, *, lowest: int = 0) -> GivenLabels:
    """Read labels that are numbers from ``lowest``, or names, one an image; raises ``InputError``."""
    if values.dtype.kind in "US" and values.ndim and values.size == len(values):
        try:
            names, numbers = np.unique(values.astype(str), return_inverse=True)
        except UnicodeDecodeError as error:
            raise refused("has bytes for labels that are not text") from error
        if "" in names:
            raise refused("has labels of empty text: name the class, or leave out what has none")
        return GivenLabels(numbers.reshape(-1).astype(np.int64), tuple(map(str, names)), of_text=True)
    return GivenLabels(checked_labels(values, refused, lowest=lowest))


def places_in(names: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """Return the number in ``classes`` of each name, ``UNLABELLED`` where it is none of them."""
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers.get(name, UNLABELLED) for name in names], np.int64)


def _numbered(
    splits: list[str], given: list[GivenLabels], refused: Refusal, told: list[str]
) -> LabelledSplits:
    train = given[0]
    if not len(train.used):
        raise refused("has no image with a label")
    names = train.names or tuple(map(str, range(int(train.used[-1]) + 1)))
    if len(set(names)) < len(names):
        raise refused("names a class twice")
    classes = tuple(names[number] for number in train.used)
    if len(classes) < 2:
        raise refused(f"has images of only one class, {classes[0]} (a label of -1 means none)")
    labels = []
    for split, each in zip(splits, given, strict=True):
        if each.of_text and not train.names:
            raise refused(f"has names for labels in {split}, numbers in {splits[0]}")
        if train.of_text and not each.names:
            raise refused(f"has numbers for labels in {split}, names in {splits[0]}")
        own = each.names if each.names and train.names else names
        own = own + tuple(map(str, range(len(own), int(each.used[-1]) + 1)))
        places = places_in(own, classes)
        if unknown := [own[number] for number in each.used if places[number] == UNLABELLED]:
            raise refused(f"has classes in {split} that no training image is of: {listed(unknown)}")
        labels.append(np.append(places, UNLABELLED)[each.numbers])  # -1 finds the last
        if count := int((each.numbers == UNLABELLED).sum()):
            where = "" if split == "all" else f" for {split}"
            told.append(f"has {count:,} of {len(each.numbers):,} images{where} without a label: left out")
    has_gaps = len(classes) < len(names)
    renumbered = has_gaps or any(
        not np.array_equal(before.numbers, after) for before, after in zip(given, labels, strict=True)
    )
    if has_gaps:
        kept = f"{len(classes)} classes keep their names: {listed(classes)}"
        told.append(f"has labels with gaps, which are renumbered from 0; the {kept}")
    return LabelledSplits(tuple(splits), tuple(labels), classes, renumbered, tuple(told))
