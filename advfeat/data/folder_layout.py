"""Which folders are classes, which are splits, and what a person means by those that are neither."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from unicodedata import normalize

from advfeat.data.picture_tree import PictureTree
from advfeat.data.refusal import Refusal, listed
from advfeat.data.split_names import Role, role_of, roles_in

Placed = list[tuple[PurePath, tuple[str, ...]]]
"""Pictures: where each lies, and the parts of that below the folder in question."""

_PART = re.compile(r"(k-?fold|fold|cv|split|batch|shard|chunk|subset)[\W_]*\d+", re.IGNORECASE)
"""What people cut sets into, for cross-validation or to carry them."""

_TESTED_ON: tuple[Role, ...] = ("test", "val")
"""By preference."""


@dataclass(frozen=True)
class FolderLayout:
    """The pictures of a folder by split, each with its label; without ``test`` a share is held out."""

    classes: tuple[str, ...]
    train: list[tuple[PurePath, int]]
    test: list[tuple[PurePath, int]] | None
    told: tuple[str, ...]
    """What was taken for something that its name does not say, or left out, each as a predicate."""


def folder_layout(tree: PictureTree, refused: Refusal) -> FolderLayout:
    """Find splits and classes by the folders' names; raises ``InputError`` where those can mean two things.

    Below the folder, or an outer one that holds everything, lie the classes, or splits of them. Names of
    splits may stand below those of classes instead.
    """
    told: list[str] = []
    placed = _unwrapped([(path, path.parts) for path in tree.pictures], told)
    by_split = _splits_first(placed, told, refused)
    tops = _by_top(by_split)
    named = {name: role for name in tops if (role := role_of(name))}
    training = _only("train", named, refused)
    if training is None or not (train := _split(tops[training], told, "train")).classes:
        whole = _split(placed, told)
        _check_classes(whole.classes, tree, refused)
        _tell_same_folders(whole, told)
        return FolderLayout(whole.classes, whole.labelled(whole.classes), None, tuple(told))
    _check_classes(train.classes, tree, refused)
    _tell_same_folders(train, told)
    _tell_loose(by_split, told)
    told.extend(f"leaves out {name}/ next to {training}/" for name in sorted(set(tops) - set(named)))
    test = _labelled_split(tops, named, train, told, refused)
    if test is None:
        told.append(f"has no labelled split next to {training}/: a share of it is held out for testing")
        return FolderLayout(train.classes, train.labelled(train.classes), None, tuple(told))
    if missing := sorted(set(train.classes) - set(test.classes)):
        told.append(f"has no picture to test of some classes ({len(missing)}): {listed(missing)}")
    return FolderLayout(
        train.classes, train.labelled(train.classes), test.labelled(train.classes), tuple(told)
    )


@dataclass(frozen=True)
class _Split:
    by_class: dict[str, list[PurePath]]
    inner: dict[str, set[str]]
    """The folders that lie in a class's folder, and an empty name if pictures lie beside them."""

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted(self.by_class))

    def labelled(self, classes: Sequence[str]) -> list[tuple[PurePath, int]]:
        return [(path, label) for label, name in enumerate(classes) for path in self.by_class.get(name, [])]


def _split(placed: Placed, told: list[str], role: Role | None = None) -> _Split:
    """Sort the pictures of a split, or of all there is, by their class folders."""
    by_class: dict[str, list[PurePath]] = {}
    inner: dict[str, set[str]] = {}
    inside = _unwrapped(placed, told, role)
    for path, below in inside:
        if len(below) > 1:
            name = normalize("NFC", below[0])
            by_class.setdefault(name, []).append(path)
            inner.setdefault(name, set()).add(below[1] if len(below) > 2 else "")
    if by_class:
        _tell_loose(inside, told)
    return _Split(by_class, inner)


def _tell_same_folders(split: _Split, told: list[str]) -> None:
    """Say which of two levels of folders were taken for classes where it could be either: patients, say."""
    folders, *others = map(frozenset, split.inner.values())
    if len(folders) > 1 and "" not in folders and set(others) == {folders}:
        same = listed(sorted(folders))
        told.append(f"has the classes {listed(split.classes)}, which all hold the same folders: {same}")


def _tell_loose(placed: Placed, told: list[str]) -> None:
    if loose := [path for path, below in placed if len(below) == 1]:
        told.append(f"leaves out pictures that lie in no class folder ({len(loose):,}): {listed(loose)}")


def _check_classes(classes: tuple[str, ...], tree: PictureTree, refused: Refusal) -> None:
    """Refuse classes that are splits or parts of a set, and fewer than two; raises ``InputError``.

    One of at least three may be called train, which is also a thing that pictures show.
    """
    splits = [name for name in classes if role_of(name)]
    is_vehicle = len(splits) == 1 and splits[0].casefold() == "train" and len(classes) > 2
    if splits and not is_vehicle:
        problem = f"has folders named as splits in the place of classes: {listed(splits)}"
        if not any(role_of(name) == "train" for name in splits):
            problem += ", and there is no train/ with class folders"
        raise refused(problem)
    if len(classes) < 2:
        problem = "has fewer than two class folders with pictures"
        if others := tree.no_pictures:
            problem += f", but files of no picture's suffix ({len(others):,}): {listed(others)}"
        raise refused(problem)
    if all(map(_PART.fullmatch, classes)):
        raise refused(f"has folders that look like parts of a set, not classes: {listed(classes)}")
    if len(set().union(*map(roles_in, classes))) > 1:
        raise refused(f"has folders that look like splits, not classes: {listed(classes)}")


def _labelled_split(
    tops: dict[str, Placed], named: dict[str, Role], train: _Split, told: list[str], refused: Refusal
) -> _Split | None:
    """Return the split to test on: the test split if it has labels, else the validation split."""
    chosen = None
    for role in _TESTED_ON:
        name = _only(role, named, refused)
        if name is None:
            continue
        if chosen is not None:
            told.append(f"leaves out {name}/, as there is a test split")
            continue
        found = _split(tops[name], told, role)
        others = sorted(set(found.classes) - set(train.classes))
        if len(others) > 1 or (others and len(found.classes) > 1):
            raise refused(f"has other classes in {name}/ than in the training split: {listed(others)}")
        if not found.classes or others:
            told.append(f"leaves out {name}/, which has no class folders")
            continue
        chosen = found
        if role == "val":
            told.append(f"has no labelled test split: {name}/ takes its place")
    return chosen


def _unwrapped(placed: Placed, told: list[str], role: Role | None = None) -> Placed:
    """Descend into a folder that holds everything and is no class: only folders with pictures are in it.

    A folder that is called as a split is none such, unless it lies in one of that ``role``.
    """
    outer: list[str] = []
    while (name := _sole_folder(placed)) is not None and role_of(name) in (None, role):
        outer.append(name)
        placed = [(path, below[1:]) for path, below in placed]
    if outer:
        told.append(f"has everything in {'/'.join(outer)}/, whose folders are looked at")
    return placed


def _sole_folder(placed: Placed) -> str | None:
    """Return the folder that all pictures lie in, if they lie in folders below it."""
    tops = {below[0] for _, below in placed}
    return tops.pop() if len(tops) == 1 and all(len(below) > 2 for _, below in placed) else None


def _splits_first(placed: Placed, told: list[str], refused: Refusal) -> Placed:
    """Return places as split and class where they are class and split; raises ``InputError`` for both."""
    if any(role_of(below[0]) for _, below in placed):
        return placed
    inner = [role_of(below[1]) if len(below) > 2 else None for _, below in placed]
    if len(set(inner) - {None}) < 2:
        return placed
    if None in inner:
        odd = placed[inner.index(None)][0]
        raise refused(f"has folders of splits in some class folders, and pictures next to them ({odd})")
    told.append("has its splits in the class folders")
    return [(path, (below[1], below[0], *below[2:])) for path, below in placed]


def _by_top(placed: Placed) -> dict[str, Placed]:
    """Group pictures by the first folder; those in none are left out."""
    groups: dict[str, Placed] = {}
    for path, below in placed:
        if len(below) > 1:
            groups.setdefault(below[0], []).append((path, below[1:]))
    return groups


def _only(role: Role, named: dict[str, Role], refused: Refusal) -> str | None:
    """Return the one folder of a role; None if there is none."""
    names = sorted(name for name, its in named.items() if its == role)
    if len(names) > 1:
        raise refused(f"has several folders for one split: {listed(names)}")
    return names[0] if names else None
