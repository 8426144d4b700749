"""Which arrays are images and which labels, of which split: by the names that people give them."""

import re
from collections.abc import Collection, Sequence

from advfeat.data.split_names import role_of, roles_in

Pair = tuple[str, str]
"""The names of an array of images and of that of their labels."""

_USUAL = {
    "train": (("x", "images", "image", "data", "imgs", "img"), ("y", "labels", "label", "targets", "target")),
    "all": (("images", "image", "x", "data", "imgs", "img"), ("labels", "label", "y", "targets", "target")),
}
"""What is left of a name without its split, most usual first: ``x_train``, ``train_images``, ``XTrain``."""

_WORDS = sorted({word for kinds in _USUAL["all"] for word in kinds}, key=len, reverse=True)


def pairs_by_split(names: Collection[str], image: str | None, label: str | None) -> dict[str, Pair]:
    """Return images and labels under ``train``, ``val`` and ``test``, or under ``all``.

    ``image`` and ``label`` name other arrays than the usual ones, with the split or without it. Empty if
    there are none for training.
    """
    if image in names and label in names and image and label and not (roles_in(image) or roles_in(label)):
        return {"all": (image, label)}
    by_meaning: dict[tuple[str, str], str] = {}
    for name in sorted(names, key=lambda name: (name != name.lower(), name)):
        by_meaning.setdefault(_told(name), name)
    found: dict[str, Pair] = {}
    for split in ("train", "val", "test", "all"):
        usual = _USUAL["all" if split == "all" else "train"]
        wanted = [
            tail if named is None else (_told(named)[1],)
            for named, tail in zip((image, label), usual, strict=True)
        ]
        images, labels = (_first(by_meaning, split, words) for words in wanted)
        if images is not None and labels is not None:
            found[split] = (images, labels)
    if "train" in found:
        return {split: pair for split, pair in found.items() if split != "all"}
    if "all" in found:
        return {"all": found["all"]}
    return {"all": (image, label)} if image in names and label in names and image and label else {}


def _first(by_meaning: dict[tuple[str, str], str], split: str, words: Sequence[str]) -> str | None:
    return next((by_meaning[split, word] for word in words if (split, word) in by_meaning), None)


def _told(name: str) -> tuple[str, str]:
    """Return the split that a name tells, else ``all``, and what is left of the name without it."""
    words = [part for word in re.findall(r"[^\W\d_]+|\d+", name) for part in _parts(word)]
    roles = roles_in(" ".join(words))
    if len(roles) != 1:
        return "all", "_".join(words)
    return roles.pop(), "_".join(word for word in words if not role_of(word))


def _parts(word: str) -> list[str]:
    """Take ``xtrain``, ``trainX``, ``TRAINimages`` and ``cleanTrain`` apart, in small letters."""
    small = word.lower()
    for usual in _WORDS:
        if small.startswith(usual) and role_of(small.removeprefix(usual)):
            return [usual, small.removeprefix(usual)]
        if small.endswith(usual) and role_of(small.removesuffix(usual)):
            return [small.removesuffix(usual), usual]
    return [part.lower() for part in re.split(r"(?<=[a-z])(?=[A-Z])", word)]
