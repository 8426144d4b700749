"""Whether the files of one split are one set: several may lie in a folder, and some of one be missing.

The Hugging Face Hub and TensorFlow number the files of a split, ``train-00000-of-00002``, and put each
configuration of a data set into a folder of its own, with splits of the same names.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath

from advfeat.data.refusal import Refusal, listed
from advfeat.data.split_names import role_of

_NUMBERED = re.compile(r"(?P<name>.*?)[-_.]?(?P<number>\d+)-of-(?P<count>\d+)")
_HEXADECIMAL = re.compile(r"[a-f]+")
"""What is left of the sums and random identifiers that writers put into names."""


def check_one_set(split: str, files: Mapping[str, str], refused: Refusal) -> tuple[str, ...]:
    """Refuse files that are several sets of one split, and tell, each in a predicate, what else is odd.

    ``files`` are called from the place that was named, with the folder that each one's split is told in.
    Raises what ``refused`` makes.
    """
    numbered = defaultdict[tuple[str, str], list[int]](list)
    others = []
    for file in files:
        if match := _NUMBERED.match(PurePosixPath(file).name):
            numbered[match["name"], match["count"]].append(int(match["number"]))
        else:
            others.append(file)
    sets = [place or "." for place in sorted(set(files.values()))]
    if len(sets) == 1:
        sets = [f"{name}-…-of-{count}" for name, count in sorted(numbered)]
    if len(sets) > 1 or any(len(set(numbers)) < len(numbers) for numbers in numbered.values()):
        raise refused(f"holds several sets with a {split} split ({listed(sets)}): name the place of one")
    told = [
        f"lacks {missing:,} of the {int(count):,} files {name}-…-of-{count}"
        for (name, count), numbers in numbered.items()
        if (missing := int(count) - len(numbers)) > 0
    ]
    if len(set(map(_words, others))) > 1:
        told.append(f"has one {split} split in files that are called differently: {listed(others)}")
    return tuple(told)


def _words(file: str) -> tuple[str, ...]:
    """Return what a file is called beside its split, if its name tells that, without numbers and letters."""
    words = re.findall(r"[^\W\d_]{2,}", PurePosixPath(file).stem.lower())
    if not any(map(role_of, words)):
        return ()
    return tuple(word for word in words if not (role_of(word) or _HEXADECIMAL.fullmatch(word)))
