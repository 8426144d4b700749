"""Reads damaged files in a process of its own, which native code may end.

Each file comes from standard input behind its length in 8 bytes; the answer to each is a line.
"""

import resource
import struct
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np

from advfeat.data.imported import describe, pieces
from advfeat.data.parquet import ParquetSource
from advfeat.files.tables import float_array, image_array, int_array, read_table, read_tables
from advfeat.spec import DataSpec
from tests.fuzz.refused import refused_in_a_line

_MOST_MEMORY_BYTES = 1 << 30


def table(content: bytes, _: Path) -> None:
    """Read a table of the store as stages do."""
    list(read_tables(content, ["image", "label"], range(3, 30)))
    found = read_table(content)
    for read in (
        lambda: image_array(found, np.uint8),
        lambda: image_array(found, np.float32),
        lambda: int_array(found, "label"),
        lambda: float_array(found, "soft_label"),
    ):
        refused_in_a_line(read)


def source(content: bytes, folder: Path) -> None:
    """Read a user's file, as pictures and as a finished data set."""
    path = folder / "pictures.parquet"
    path.write_bytes(content)
    spec = DataSpec(source=f"parquet:{path}")
    opened = ParquetSource(str(path), spec)

    def pictures() -> None:
        splits = opened.splits()
        splits.train.in_memory(5)
        splits.test.in_memory(5)

    finished = partial(whole, f"parquet:{path}")
    for read in (opened.identity, opened.sizes, opened.image_shape, opened.class_count, pictures, finished):
        refused_in_a_line(read)


def arrays(content: bytes, folder: Path) -> None:
    """Read a user's NumPy archive, and what may be one of its arrays alone."""
    (folder / "arrays.npz").write_bytes(content)
    (folder / "images.npy").write_bytes(content)
    for place in (folder / "arrays.npz", folder):
        refused_in_a_line(partial(whole, f"numpy:{place}"))


def tensors(content: bytes, folder: Path) -> None:
    """Read the two files of a data set as Ilyas et al. published them."""
    for name in ("CIFAR_ims", "CIFAR_lab"):
        (folder / name).write_bytes(content)
    refused_in_a_line(lambda: whole(f"torch:{folder}"))


def whole(location: str) -> None:
    """Read a finished data set from end to end."""
    describe(location)
    for _ in pieces(location, 16):
        pass


def main() -> None:
    """Answer until standard input ends."""
    warnings.simplefilter("ignore")
    parse = {"table": table, "source": source, "arrays": arrays, "tensors": tensors}[sys.argv[1]]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    with tempfile.TemporaryDirectory() as folder:
        while length := sys.stdin.buffer.read(8):
            content = sys.stdin.buffer.read(struct.unpack("<Q", length)[0])
            try:
                refused_in_a_line(partial(parse, content, Path(folder)))
                answer = "read or refused"
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
            if grown > _MOST_MEMORY_BYTES:
                answer = f"took {grown >> 20} MiB of memory"
            print(" ".join(answer.split()), flush=True)


if __name__ == "__main__":
    main()
