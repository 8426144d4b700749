"""Any source of real images -> uint8 images, labels and class names, split for training and test.

Before anything is computed a source says which bytes are meant (``identity``, which goes into
digests) and how many images they hold (``sizes``), and raises ``InputError`` if they cannot be used;
``splits`` reads them a piece at a time, ``load`` all at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from advfeat.data.images import ImageData, Splits
from advfeat.data.split import cut, cut_sizes
from advfeat.files.place import absolute_source, place_of
from advfeat.spec import DataSpec, is_own_source

__all__ = [
    "Downloadable",
    "ImageData",
    "Repeated",
    "Source",
    "Telling",
    "absolute",
    "check_unchanged",
    "class_count",
    "class_names",
    "fetch",
    "image_shape",
    "load",
    "open_source",
    "sizes",
    "splits",
    "told",
]


class Source(Protocol):
    """Where images come from."""

    def identity(self) -> dict[str, Any]:
        """Say which bytes are meant, as JSON; raises ``InputError`` if they cannot be used."""

    def sizes(self) -> tuple[int, int]:
        """Count the training and the test images; raises ``InputError`` like ``identity``."""

    def image_shape(self) -> tuple[int, ...]:
        """Return channels, height and width; raises ``InputError`` like ``identity``."""

    def class_count(self) -> int:
        """Count the classes; raises ``InputError`` like ``identity``."""

    def class_names(self) -> tuple[str, ...]:
        """Name the classes; raises ``InputError`` like ``identity``."""

    def splits(self) -> Splits:
        """Read all labels; raises ``InputError`` like ``identity``, and its images when they are read."""


@runtime_checkable
class Downloadable(Protocol):
    """A source whose files may have to be downloaded first."""

    def fetch(self) -> None:
        """Bring the files to this machine; raises ``InputError``."""


@runtime_checkable
class Telling(Protocol):
    """A source that chooses among what is there: what it takes for what, and what it leaves out."""

    def told(self) -> tuple[str, ...]:
        """Say so, each in a predicate about the source; raises ``InputError`` like ``identity``."""

    def left_out(self) -> Mapping[str, Sequence[object]]:
        """List what lies there and is not read, by what it is; raises ``InputError`` like ``identity``."""


@runtime_checkable
class Repeated(Protocol):
    """A source that makes its images anew each time that it is asked, and may make others."""

    def check_unchanged(self, identity: Mapping[str, Any]) -> None:
        """Raise ``InputError`` unless its images were those of an identity when it was last asked."""


def absolute(spec: DataSpec) -> DataSpec:
    """Return the spec with the places that it names as they are named from any folder."""
    root = None if spec.root is None else place_of(spec.root).uri
    source = spec.source if is_own_source(spec.source) else absolute_source(spec.source)
    return spec.model_copy(update={"source": source, "root": root})


def open_source(spec: DataSpec) -> Source:
    """Return the source that ``spec.source`` names."""
    if is_own_source(spec.source):
        from advfeat.data.own_source import OwnSource

        return OwnSource(spec)
    kind, _, location = spec.source.partition(":")
    if kind == "folder":
        from advfeat.data.folder import FolderSource

        return FolderSource(location, spec)
    if kind == "parquet":
        from advfeat.data.parquet import ParquetSource

        return ParquetSource(location, spec)
    if kind == "numpy":
        from advfeat.data.numpy_source import NumpySource

        return NumpySource(location, spec)
    if kind == "restricted-imagenet":
        from advfeat.data.restricted_imagenet import RestrictedImageNet

        return RestrictedImageNet(location, spec)
    if kind == "digits":
        from advfeat.data.digits import DigitsSource

        return DigitsSource(spec)
    if kind == "photo-patches":
        from advfeat.data.photo_patches import PhotoPatches

        return PhotoPatches(spec)
    from advfeat.data.torchvision_sets import TorchvisionSource

    return TorchvisionSource(kind, spec)


def splits(spec: DataSpec) -> Splits:
    """Return the images that a spec asks for, cut to its sizes; they are read when they are asked for."""
    return cut(open_source(spec).splits(), spec)


def check_unchanged(spec: DataSpec, identity: Mapping[str, Any]) -> None:
    """Refuse a function that is not at hand, or yields other images than those of an identity.

    Of other sources nothing is looked at. Raises ``InputError``; ``splits`` does for what changes later.
    """
    source = open_source(spec)
    if isinstance(source, Repeated):
        source.check_unchanged(identity)


def load(spec: DataSpec) -> ImageData:
    """Read the images that a spec asks for into memory; raises ``InputError``."""
    found = splits(spec)
    return ImageData(found.train.in_memory(), found.test.in_memory(), found.classes)


def sizes(spec: DataSpec) -> tuple[int, int]:
    """Count the training and the test images that ``load`` will return; raises ``InputError``."""
    return cut_sizes(open_source(spec).sizes(), spec)


def image_shape(spec: DataSpec) -> tuple[int, ...]:
    """Return channels, height and width of the images that ``load`` will return; raises ``InputError``."""
    return open_source(spec).image_shape()


def class_count(spec: DataSpec) -> int:
    """Count the classes of the images that ``load`` will return; raises ``InputError``."""
    return open_source(spec).class_count()


def class_names(spec: DataSpec) -> tuple[str, ...]:
    """Name the classes of the images that ``load`` will return; raises ``InputError``."""
    return open_source(spec).class_names()


def told(spec: DataSpec) -> tuple[str, ...]:
    """Say what the source took for what its name does not say, or left out; raises ``InputError``."""
    source = open_source(spec)
    return source.told() if isinstance(source, Telling) else ()


def fetch(spec: DataSpec) -> None:
    """Download what a spec asks for, if it is not on this machine; raises ``InputError``."""
    source = open_source(spec)
    if isinstance(source, Downloadable):
        source.fetch()
