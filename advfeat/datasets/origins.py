"""Where real images come from, and under which licence, as far as somebody states one.

Licences carry Hugging Face's names for them. They are those of the images; what they mean for data sets
made of them is for the reader to judge.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from advfeat.spec import LOCATED_SOURCES, NAMED_SOURCES


@dataclass(frozen=True)
class Origin:
    """A set of real images: ``source`` as experiments name it."""

    source: str
    title: str
    licence: str
    stated_by: str


_ORIGINS = (
    Origin(
        "digits",
        "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak), test part",
        "cc-by-4.0",
        "UCI Machine Learning Repository, archive.ics.uci.edu/dataset/80",
    ),
    Origin(
        "photo-patches",
        "patches of the photographs china.jpg and flower.jpg",
        "cc-by-2.0",
        "scikit-learn, sklearn/datasets/images/README.txt",
    ),
    Origin(
        "cifar10",
        "CIFAR-10 (A. Krizhevsky, V. Nair, G. Hinton)",
        "unknown",
        "www.cs.toronto.edu/~kriz/cifar.html states none",
    ),
    Origin("mnist", "MNIST (Y. LeCun, C. Cortes)", "cc-by-sa-3.0", "keras.io/api/datasets/mnist"),
    Origin(
        "restricted-imagenet:PATH",
        "Restricted ImageNet (classes of ILSVRC 2012)",
        "other",
        "image-net.org/download: non-commercial research and education",
    ),
    Origin("fashion-mnist", "Fashion-MNIST (Zalando)", "mit", "github.com/zalandoresearch/fashion-mnist"),
)
_BY_SOURCE = {origin.source: origin for origin in _ORIGINS}
_OF_FUNCTION = Origin(
    "FILE.py:FUNCTION", "images that a function of the user's own yields", "unknown", "as given by the user"
)
_TORCHVISION = {"CIFAR10": "cifar10", "MNIST": "mnist", "FashionMNIST": "fashion-mnist"}
_SETTINGS = ("test_fraction", "image_size", "image_column", "label_column")
"""What the identity of images says of the ``DataSpec`` that they were read by."""

_KINDS = {*NAMED_SOURCES, *(prefix.rstrip(":") for prefix in LOCATED_SOURCES), "torchvision", "torch"}


def origin_of(identity: Mapping[str, Any]) -> Origin:
    """Return where images of an identity, a parameter of stages that read files, come from.

    The place of files is no part of it: ``source`` then holds the word PATH, or FILE.py, in its stead.
    """
    if "function" in identity:
        return _OF_FUNCTION
    kind = next((name for name in identity if name in _KINDS), "folder")
    source = _TORCHVISION.get(str(identity[kind]), kind) if kind == "torchvision" else kind
    located = f"{kind}:PATH"
    given = Origin(located, f"files that the user gave ({kind})", "unknown", "as given by the user")
    return _BY_SOURCE.get(source, _BY_SOURCE.get(located, given))


def data_fields(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the ``DataSpec`` that images were read by, from the stage's parameters."""
    identity = parameters["identity"]
    described = [identity, *(part for part in identity.values() if isinstance(part, dict))]
    settings = {name: part[name] for part in described for name in _SETTINGS if name in part}
    sizes = {name: parameters[name] for name in ("train_size", "test_size")}
    return {"source": origin_of(identity).source, **settings, **sizes}
