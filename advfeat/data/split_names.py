"""Names of splits as people give them: ``train``, ``Training``, ``val_set``, ``TEST2017``."""

import re
from typing import Literal

Role = Literal["train", "val", "test"]

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev", "development"), "val"),
    **dict.fromkeys(("test", "tests", "testing", "tst"), "test"),
}
_FILLERS = {
    "set",
    "sets",
    "data",
    "dataset",
    "image",
    "images",
    "img",
    "imgs",
    "picture",
    "pictures",
    "split",
}
_ONE, _OTHER = ("|".join(sorted(words, key=len, reverse=True)) for words in (_ROLES, _FILLERS))
_JOINED = re.compile(rf"({_ONE})({_OTHER})|({_OTHER})({_ONE})")
"""Both in one word: ``trainset``, ``imagesTest``."""


def role_of(name: str) -> Role | None:
    """Return which split a folder's name means; None if it is not a name of a split."""
    roles, others = _words(name)
    return roles.pop() if len(roles) == 1 and others <= _FILLERS else None


def roles_in(name: str) -> set[Role]:
    """Return the splits that a name speaks of, whatever else it says: ``seg_train`` of ``train``."""
    return _words(name)[0]


def _parts(word: str) -> list[str]:
    """Take ``trainset`` and ``cifarTrain`` apart, in small letters."""
    small = word.lower()
    if joined := _JOINED.fullmatch(small):
        return list(filter(None, joined.groups()))
    if small in _ROLES or small in _FILLERS:
        return [small]
    return [part.lower() for part in re.split(r"(?<=[a-z])(?=[A-Z])", word)]


def _words(name: str) -> tuple[set[Role], set[str]]:
    """Return the roles among the words of a name, and the other words; numbers do not count."""
    words: set[str] = set()
    for word in re.findall(r"[^\W\d_]+", name):
        words.update(_parts(word))
    if {"train", "val"} <= words:  # both in one, as trainval
        words -= {"val"}
    return {_ROLES[word] for word in words & _ROLES.keys()}, words - _ROLES.keys()
