"""Damaged Parquet, NumPy, torch and picture files: read, or refused in one line.

Memory is taken for what they hold, not for what they promise.
"""

import io
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from advfeat.data.decode import picture_shape
from advfeat.files.tables import bytes_column, image_column, with_image_shape, write_table
from tests.fuzz.mutation import damaged_bytes, damaged_json
from tests.fuzz.refused import refused_in_a_line
from tests.fuzz.settings import fuzz


class Child:
    """A process that reads files; it is started again for the next file if one ended it."""

    def __init__(self, kind: str, originals: list[bytes]) -> None:
        self.originals = originals
        self._command = [sys.executable, "-m", "tests.fuzz.child", kind]
        self._process: subprocess.Popen[bytes] | None = None

    def answer(self, content: bytes) -> str:
        if self._process is None:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(struct.pack("<Q", len(content)) + content)
        self._process.stdin.flush()
        if line := self._process.stdout.readline():
            return line.decode().strip()
        code, self._process = self._process.wait(), None
        return f"the process ended with {code}"

    def end(self) -> None:
        if self._process is not None:
            self._process.communicate()


@pytest.fixture(scope="module", params=["table", "source", "arrays", "tensors"])
def child(request: pytest.FixtureRequest) -> Iterator[Child]:
    originals = {
        "table": store_tables,
        "source": lambda: picture_tables() + store_tables(),
        "arrays": archives,
        "tensors": tensor_files,
    }
    process = Child(request.param, originals[request.param]())
    yield process
    process.end()


def picture(form: str = "PNG") -> bytes:
    written = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(written, form)
    return written.getvalue()


def store_tables() -> list[bytes]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 1, 4, 4), dtype=np.uint8)
    columns = {"image": image_column(images), "label": pa.array(rng.integers(0, 3, 40))}
    floats = columns | {
        "image": image_column((images / 255).astype(np.float32)),
        "soft_label": pa.FixedSizeListArray.from_arrays(pa.array(rng.random(120, np.float32)), 3),
        "index": pa.array(np.arange(40)),
    }
    of_bytes = columns | {"image": bytes_column(images)}
    tables = [with_image_shape(pa.table(each), (1, 4, 4)) for each in (columns, floats, of_bytes)]
    return [parquet(table) for table in tables] + [with_dictionaries(table) for table in tables]


def parquet(table: pa.Table) -> bytes:
    written = io.BytesIO()
    write_table(table, written)  # type: ignore[arg-type]
    return written.getvalue()


def with_dictionaries(table: pa.Table) -> bytes:
    written = io.BytesIO()
    pq.write_table(table, written)
    return written.getvalue()


def picture_tables() -> list[bytes]:
    found = []
    for compression, dictionary in (("snappy", True), ("zstd", False)):
        pictures = [{"bytes": picture(), "path": None}] * 12
        table = pa.table({"image": pictures, "label": [0, 1] * 6})
        described = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
        table = table.replace_schema_metadata({b"huggingface": json.dumps(described).encode()})
        written = io.BytesIO()
        pq.write_table(table, written, compression=compression, use_dictionary=dictionary)
        found.append(written.getvalue())
    return found


def archives() -> list[bytes]:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (12, 4, 4, 3), dtype=np.uint8), rng.integers(0, 3, 12)
    found = []
    for save in (np.savez, np.savez_compressed):
        written = io.BytesIO()
        save(written, images=images, labels=labels)
        found.append(written.getvalue())
    alone = io.BytesIO()
    np.save(alone, images)
    return [*found, alone.getvalue()]


def tensor_files() -> list[bytes]:
    found = []
    for value in ([torch.rand(6, 3, 4, 4)] * 2, [torch.arange(6)] * 2, torch.rand(6, 3, 4, 4)):
        for zipped in (True, False):
            written = io.BytesIO()
            torch.save(value, written, _use_new_zipfile_serialization=zipped)
            found.append(written.getvalue())
    return found


@fuzz
@given(data=st.data())
def test_files_of_rows(child: Child, data: st.DataObject) -> None:
    assert child.answer(data.draw(damaged_bytes(child.originals))) == "read or refused"


SHAPES = [{"image_shape": [1, 4, 4]}]


@fuzz
@given(text=damaged_json(SHAPES))
@example(text='{"image_shape": [66588, 4, 4745]}')  # 23 GiB for what is a few hundred bytes
def test_shapes_that_tables_tell(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    from tests.fuzz.child import source, table

    columns = {"image": image_column(np.zeros((5, 1, 4, 4), np.uint8)), "label": np.zeros(5, np.int64)}
    told = pa.table(columns, metadata={b"advfeat": text.encode(errors="surrogatepass")})
    refused_in_a_line(lambda: table(parquet(told), Path()))
    source(parquet(told), tmp_path_factory.getbasetemp())


PICTURES = [
    picture(form)
    for form in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "TGA", "PCX", "JPEG2000", "AVIF")
]


@fuzz
@given(damaged_bytes(PICTURES))
@pytest.mark.filterwarnings("ignore")
def test_pictures(content: bytes) -> None:
    refused_in_a_line(lambda: picture_shape(("a picture", content), 8))
