"""torchvision's CIFAR-10, MNIST and Fashion-MNIST, from a folder or downloaded once.

The sets are known by their unpacked bytes, so a folder with other content is refused and a digest
does not depend on where the files lie.
"""

import gzip
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from advfeat.data.images import LabelledImages, Split, Splits
from advfeat.errors import InputError
from advfeat.files.place import local_path
from advfeat.spec import DataSpec

DOWNLOAD_FOLDER = Path(".advfeat/data")

_TORCHVISION_NAMES = {"cifar10": "CIFAR10", "mnist": "MNIST", "fashion-mnist": "FashionMNIST"}

# MD5 of the unpacked IDX files; torchvision knows only those of its own archives.
_IDX_MD5 = {
    "MNIST": {
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    },
    "FashionMNIST": {
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    },
}


_SIZES = {"CIFAR10": (50_000, 10_000), "MNIST": (60_000, 10_000), "FashionMNIST": (60_000, 10_000)}
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_CLASSES = {
    "CIFAR10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "MNIST": tuple(f"{digit} - {name}" for digit, name in enumerate(_DIGITS)),
    "FashionMNIST": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}
_SHAPES = {"CIFAR10": (3, 32, 32), "MNIST": (1, 28, 28), "FashionMNIST": (1, 28, 28)}


class TorchvisionSource:
    """One of torchvision's data sets."""

    def __init__(self, name: str, spec: DataSpec) -> None:
        self.name = _TORCHVISION_NAMES[name]
        self.spec = spec
        self.root = _folder(spec.root) if spec.root else DOWNLOAD_FOLDER

    def identity(self) -> dict[str, Any]:
        """Say which bytes are meant; nothing is downloaded for it."""
        if self.spec.root is not None:
            self.fetch()
        return {"torchvision": self.name}

    def sizes(self) -> tuple[int, int]:
        """Count the training and the test images; nothing is downloaded for it."""
        return _SIZES[self.name]

    def image_shape(self) -> tuple[int, ...]:
        """Return channels, height and width; nothing is downloaded for it."""
        return _SHAPES[self.name]

    def class_count(self) -> int:
        """Count the classes; nothing is downloaded for it."""
        return len(_CLASSES[self.name])

    def class_names(self) -> tuple[str, ...]:
        """Name the classes as torchvision does; nothing is downloaded for it."""
        return _CLASSES[self.name]

    def fetch(self) -> None:
        """Make sure that the files are there, downloading them if no folder was named."""
        if self._is_complete(self.root):
            return
        if self.spec.root is not None:
            raise InputError(
                "data.root",
                self.spec.root,
                f"does not hold torchvision's {self.name}",
                f"name the folder that holds {self._expected_layout()}",
            )
        from torchvision import datasets

        try:
            self.root.mkdir(parents=True, exist_ok=True)
            getattr(datasets, self.name)(str(self.root), download=True)
        except (OSError, RuntimeError) as error:
            raise InputError(
                "data.source",
                self.spec.source,
                f"could not be downloaded ({str(error).splitlines()[0]})",
                f"name a folder that holds {self._expected_layout()} with --set data.root=FOLDER",
            ) from error

    def splits(self) -> Splits:
        """Read both splits, after a check of every file."""
        self.fetch()
        from torchvision import datasets

        with self._checked_root() as root:
            try:
                train, test = (
                    getattr(datasets, self.name)(str(root), train=is_train) for is_train in (True, False)
                )
            except RuntimeError as error:  # torchvision found other bytes than it knows
                raise self._other_bytes(f"{self.name} files") from error
        return Splits(
            Split.whole(_as_arrays(train)), Split.whole(_as_arrays(test)), tuple(map(str, train.classes))
        )

    def _other_bytes(self, name: str) -> InputError:
        problem = f"holds another {name} than torchvision's {self.name}"
        return InputError("data.root", str(self.root), problem, "fetch the set again")

    def _expected_layout(self) -> str:
        return f"{self.name}/raw/*-ubyte[.gz]" if self.name in _IDX_MD5 else "cifar-10-batches-py/"

    def _is_complete(self, root: Path) -> bool:
        if self.name in _IDX_MD5:
            raw = root / self.name / "raw"
            return all(
                (raw / name).is_file() or (raw / f"{name}.gz").is_file() for name in _IDX_MD5[self.name]
            )
        return (root / "cifar-10-batches-py" / "batches.meta").is_file()

    @contextmanager
    def _checked_root(self) -> Iterator[Path]:
        """Give a root whose IDX files are unpacked and checked; the named one may be read-only."""
        if self.name not in _IDX_MD5:
            yield self.root  # torchvision itself checks CIFAR-10's files
            return
        with tempfile.TemporaryDirectory(prefix="advfeat-") as folder:
            packed, unpacked = (root / self.name / "raw" for root in (self.root, Path(folder)))
            unpacked.mkdir(parents=True)
            for name, md5 in _IDX_MD5[self.name].items():
                plain = packed / name
                content = plain.read_bytes() if plain.is_file() else _unpacked(packed / f"{name}.gz")
                if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
                    raise self._other_bytes(name)
                (unpacked / name).write_bytes(content)
            yield Path(folder)


def _folder(named: str) -> Path:
    try:
        return local_path(named)
    except ValueError as error:
        raise InputError(
            "data.root", named, f"is not a folder ({error})", "name one on this machine"
        ) from error


def _unpacked(path: Path) -> bytes:
    with gzip.open(path) as file:
        return file.read()


def _as_arrays(dataset: Any) -> LabelledImages:
    images = np.asarray(dataset.data)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return LabelledImages(np.ascontiguousarray(images), np.asarray(dataset.targets, dtype=np.int64))
