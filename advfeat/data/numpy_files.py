"""NumPy arrays by name: an ``.npz`` file or a folder of ``.npy`` files, at a path or any fsspec URI.

No pickle is read: an array of objects is an error.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from advfeat.data.refusal import Refusal
from advfeat.digest import stream_sha256
from advfeat.errors import explained
from advfeat.files.expansion import believed_bytes
from advfeat.files.place import place_of


class NumpyFiles:
    """Arrays that are read when they are asked for; every problem is raised as ``refused`` words it."""

    def __init__(self, location: str, refused: Refusal) -> None:
        self._refused = refused
        with explained(refused):
            self._place = place_of(location)
            self._fs, self._root = self._place.fs, self._place.root
            if not self._fs.exists(self._root):
                raise refused("does not exist")
            self._is_npz = self._fs.isfile(self._root)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all arrays."""
        with explained(self._refused, "is not a readable .npz" if self._is_npz else "cannot be read"):
            if self._is_npz:
                with self._fs.open(self._root, "rb") as file, zipfile.ZipFile(file) as archive:
                    members = archive.namelist()
            else:
                members = [path.rsplit("/", 1)[-1] for path in self._place.below(depth=1)]
        return frozenset(name.removesuffix(".npy") for name in members if name.endswith(".npy"))

    def sha256(self, names: tuple[str, ...]) -> list[str]:
        """Hash the bytes of the files that hold these arrays."""
        digests = []
        for path in [self._root] if self._is_npz else map(self._path, names):
            with explained(self._refused), self._fs.open(path, "rb") as file:
                digests.append(stream_sha256(file)[0])
        return digests

    def hollow(self, name: str) -> NDArray[Any]:
        """Return an array of the same shape and type without its values, which are not read."""
        with self._opened(name) as file:
            read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
            shape, _, kind = read(file)
            return np.broadcast_to(np.zeros((), kind), shape)

    def array(self, name: str) -> NDArray[Any]:
        """Read an array; a local ``.npy`` file is mapped into memory, and read where it is used."""
        hollow = self.hollow(name)
        if hollow.dtype.hasobject:
            raise self._refused(f"has Python objects in {name}, which only code reads: save numbers or text")
        if not self._is_npz and self._place.is_local:
            with explained(self._refused, f"holds no complete {name}.npy"):
                mapped: NDArray[Any] = np.load(self._path(name), mmap_mode="r", allow_pickle=False)
                return mapped
        wanted = hollow.nbytes
        with explained(self._refused):
            if wanted > self._bytes(name):
                raise self._refused(f"says of {name} that it has {wanted:,} bytes, more than are there")
        with self._opened(name) as file:
            return npy.read_array(file, allow_pickle=False)

    def _bytes(self, name: str) -> int:
        """Return the size of the file of an array; raises ``InputError`` if it is packed beyond belief."""
        if not self._is_npz:
            return int(self._fs.size(self._path(name)))
        packed = int(self._fs.size(self._root))
        with self._fs.open(self._root, "rb") as file, zipfile.ZipFile(file) as archive:
            unpacked = archive.getinfo(f"{name}.npy").file_size
        if unpacked > believed_bytes(packed):
            raise self._refused(f"has {packed:,} bytes that unpack to {unpacked:,} in {name}")
        return unpacked

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}.npy"

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        with explained(self._refused, f"holds no complete {name}.npy"):
            if self._is_npz:
                with (
                    self._fs.open(self._root, "rb") as file,
                    zipfile.ZipFile(file) as archive,
                    archive.open(f"{name}.npy") as member,
                ):
                    yield member
            else:
                with self._fs.open(self._path(name), "rb") as file:
                    yield file


def channels_first(images: NDArray[Any], refused: Refusal) -> NDArray[Any]:
    """Return a view (N, C, H, W) of images (N, H, W), (N, H, W, C) or (N, C, H, W), C 1 or 3."""
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4:
        first, last = (images.shape[axis] in (1, 3) for axis in (1, 3))
        if first != last:
            return images if first else images.transpose(0, 3, 1, 2)
    raise refused(
        f"has images of shape {images.shape}, not N x H x W, or that with 1 or 3 channels before or after it"
    )
