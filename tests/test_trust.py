"""Files made to do harm: code in them does not run, links are not followed, promises take no memory."""

import base64
import hashlib
import io
import json
import os
import pickle
import resource
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from advfeat import data, models
from advfeat.data.imported import describe
from advfeat.digest import canonical_json
from advfeat.errors import AdvfeatError, DamagedArtifactError, StoreBusyError
from advfeat.files.tables import bytes_column, read_table, with_image_shape
from advfeat.planning import load_experiment
from advfeat.spec import DataSpec
from advfeat.stages.checkpoint import StageCheckpoint
from advfeat.storage import Stage, Store
from advfeat.storage.runs import RunRecord, planned_stages, read_records
from advfeat.upkeep.garbage import Forgotten, collect, survey
from advfeat.upkeep.reachability import read_runs
from advfeat.upkeep.usage import usage
from tests.test_cache_records import DIGEST, REFERENCE, records_of

MANY = 1 << 30
"""Bytes that a file of a few thousand unpacks to."""


@pytest.fixture(autouse=True)
def _little_memory() -> Any:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    assert grown < 400, f"{grown} MiB"


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def written(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def a_pickled_column(trace: Path) -> bytes:
    """Return Parquet whose column has Ray's extension type, which unpickles the type's description."""
    kind = pa.binary()
    described = {
        b"ARROW:extension:name": b"ray.data.arrow_pickled_object",
        b"ARROW:extension:metadata": pickle.dumps(Touch(trace)),
    }
    rows = pa.array([pickle.dumps(Touch(trace))], kind)
    return written(pa.table([rows], pa.schema([pa.field("image", kind, metadata=described)])))


def test_types_of_other_packages_are_not_built(tmp_path: Path) -> None:
    import ray.data.extensions  # registers them with Arrow

    del ray
    trace = tmp_path / "trace"
    with pytest.raises(DamagedArtifactError, match="another package"):
        read_table(a_pickled_column(trace))
    (tmp_path / "train.parquet").write_bytes(a_pickled_column(trace))
    with pytest.raises(AdvfeatError, match="another package"):
        describe(f"parquet:{tmp_path}")
    assert not trace.exists()


def zeros() -> bytes:
    """Return Parquet of 1 GiB of zeros in a few kB."""
    rows = 1 << 10
    images = np.zeros((rows, 1, 1024, MANY // rows // 1024), np.uint8)
    column = bytes_column(images[: rows // 4])
    table = with_image_shape(pa.table({"image": column}), images.shape[1:])
    return written(pa.concat_tables([table] * 4), compression="zstd", use_dictionary=False)


def test_a_table_that_unpacks_to_much_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "zeros.parquet"
    if (child := os.fork()) == 0:  # making it takes the memory that reading must not
        path.write_bytes(zeros())
        os._exit(0)
    os.waitpid(child, 0)
    content = path.read_bytes()
    assert len(content) < 1 << 20
    with pytest.raises(DamagedArtifactError, match="are believed"):
        read_table(content)


LARGE = bytes(1 << 20)


def repeated(rows: int) -> pa.Array:
    """Return a column of one large value, which takes the memory of one."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([LARGE]))


def with_dictionary(folder: Path, column: str) -> Path:
    """Write a file of half a kB whose column is 6 GB of bytes."""
    columns = {"image": pa.array([b"picture"] * 6000), "label": pa.array(np.arange(6000) % 2)}
    table = pa.table({**columns, column: repeated(6000)})
    pq.write_table(table, folder / "set.parquet", compression="zstd", store_schema=False)
    return folder / "set.parquet"


def read_everywhere(path: Path, problem: str) -> None:
    assert path.stat().st_size < 1024
    location = f"parquet:{path}"
    for read in (
        lambda: describe(location),
        lambda: data.load(DataSpec(source=location)),
        lambda: read_table(path.read_bytes()),
    ):
        with pytest.raises(AdvfeatError, match=problem):
            read()


@pytest.mark.parametrize(
    ("column", "problem"),
    [("image", "not a readable picture|dictionary"), ("label", "no integers|dictionary")],
)
def test_a_value_that_all_rows_repeat_is_not_repeated_in_memory(
    tmp_path: Path, column: str, problem: str
) -> None:
    read_everywhere(with_dictionary(tmp_path, column), problem)


def test_a_picture_that_all_rows_repeat_is_read(tmp_path: Path) -> None:
    """Dictionaries are how others write strings of bytes."""
    written = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(written, "BMP")
    large = written.getvalue() + LARGE
    indices, values = pa.array(np.zeros(600, np.int32)), pa.array([large])
    pictures = pa.DictionaryArray.from_arrays(indices, values)
    table = pa.table({"image": pictures, "label": np.arange(600) % 2})
    pq.write_table(table, tmp_path / "set.parquet", compression="zstd", store_schema=False)
    assert describe(f"parquet:{tmp_path}/set.parquet").size == 600


@pytest.mark.parametrize("kind", [pa.binary(), pa.binary(len(LARGE))])
def test_values_that_repeat_the_one_before_are_refused(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "set.parquet"
    rows = 200
    if (child := os.fork()) == 0:
        table = pa.table({"image": pa.array([LARGE] * rows, kind), "label": np.arange(rows) % 2})
        encodings = {"image": "DELTA_BYTE_ARRAY"}
        pq.write_table(table, path, compression="zstd", use_dictionary=False, column_encoding=encodings)
        os._exit(0)
    os.waitpid(child, 0)
    read_everywhere(path, "DELTA_BYTE_ARRAY")


def test_lists_that_are_filled_where_they_are_null_are_refused(tmp_path: Path) -> None:
    kinds = {"image": pa.list_(pa.float32(), 1 << 24), "label": pa.int64()}
    told = base64.b64encode(pa.schema(kinds).serialize()).decode()
    nulls = pa.table({"image": pa.nulls(20, pa.list_(pa.float32())), "label": np.arange(20) % 2})
    path = tmp_path / "set.parquet"
    with pq.ParquetWriter(path, nulls.schema, store_schema=False) as writer:
        writer.add_key_value_metadata({"ARROW:schema": told})
        writer.write_table(nulls)
    assert pq.read_schema(path).types == list(kinds.values())
    read_everywhere(path, "do not hold 16,777,216 values each")


def test_pages_hold_as_many_values_as_the_footer_says(tmp_path: Path) -> None:
    content = written(pa.table({"label": np.zeros(1000, np.int64)}), use_dictionary=False)
    assert read_table(content).num_rows == 1000
    head = b"\x2c\x15\xd0\x0f\x15\x00"  # of a page of 1000 values, as they are
    with pytest.raises(DamagedArtifactError, match="hold 1,001 values, not 1,000"):
        read_table(content.replace(head, head.replace(b"\xd0", b"\xd2"), 1))


@pytest.mark.slow
def test_an_archive_that_unpacks_to_much_is_not_unpacked(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (MANY // 64, 8, 8)}
    )
    with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w") as member:
            member.write(header.getvalue())
            for _ in range(MANY >> 20):
                member.write(bytes(1 << 20))
        with archive.open("labels.npy", "w") as member:
            np.lib.format.write_array(member, np.zeros(8, np.int64))
    with pytest.raises(AdvfeatError, match="unpack to"):
        describe(f"numpy:{tmp_path / 'd.npz'}")


def folder_of_pictures(folder: Path, name: str, content: bytes) -> DataSpec:
    for label in ("cat", "dog"):
        (folder / label).mkdir()
        (folder / label / name).write_bytes(content)
    return DataSpec(source=f"folder:{folder}")


def test_a_picture_that_is_a_program_is_not_run(tmp_path: Path) -> None:
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) print\n%%EOF\n"
    with pytest.raises(AdvfeatError, match="is not a readable picture"):
        data.image_shape(folder_of_pictures(tmp_path, "a.png", program))


def test_a_picture_of_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    with pytest.raises(AdvfeatError, match="pixels"):
        data.image_shape(folder_of_pictures(tmp_path, "a.png", content))


def test_a_model_is_as_large_as_its_weights() -> None:
    architecture = {"name": "cnn", "width": 60_000, "image_shape": [3, 8, 8], "classes": 3}
    small = models.build("cnn", width=4, image_shape=[3, 8, 8], classes=3)
    content = models.to_bytes(small, architecture)
    with pytest.raises(DamagedArtifactError, match="cannot be used"):
        models.from_bytes(content)


def test_few_lines_that_stand_for_many_values_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (tmp_path / "laughs.yaml").write_text("\n".join(lines))
    with pytest.raises(AdvfeatError, match="values"):
        load_experiment(str(tmp_path / "laughs.yaml"))


# -- the store ----------------------------------------------------------------------------------


def stored(store: Store) -> tuple[str, Path]:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "payload.bin").write_bytes(b"payload")
        return {}

    stage = Stage(kind="leakage", title="leakage", parameters={"eps": 0.5})
    digest = store.write_stage(stage, build).digest
    return digest, Path(store.artifact_uri(digest)) / store.manifest(digest).files[0].path


def test_links_that_lead_out_of_a_store_are_not_followed(local_store: Store, tmp_path: Path) -> None:
    digest, payload = stored(local_store)
    (tmp_path / "secret").write_bytes(b"payload")
    payload.unlink()
    payload.symlink_to(tmp_path / "secret")
    with pytest.raises(DamagedArtifactError, match="leads out of the store"):
        local_store.read(digest, "payload.bin")
    folder = payload.parent.rename(tmp_path / "elsewhere")
    payload.parent.symlink_to(folder)
    with pytest.raises(DamagedArtifactError, match="leads out of the store"):
        local_store.find(digest)


def test_links_that_lead_in_a_circle_are_told(local_store: Store) -> None:
    digest, payload = stored(local_store)
    payload.unlink()
    payload.symlink_to(payload)
    assert "leads nowhere" in str(local_store.verify(digest))


def test_nobody_waits_at_a_pipe(local_store: Store) -> None:
    digest, payload = stored(local_store)
    payload.unlink()
    os.mkfifo(payload)
    assert "not a regular file" in str(local_store.verify(digest))


READERS: dict[str, tuple[bytes, Callable[[Store], object]]] = {
    "runs/a.json": (
        RunRecord(run="a", flow="f", title="t", state="completed", began="").model_dump_json().encode(),
        read_records,
    ),
    "plans/a.json": (b'[{"kind":"report","title":"r","parameters":{}}]', planned_stages),
    f"cache/{DIGEST}": (
        records_of(Store("/s")).create_result_record(REFERENCE.model_dump(mode="json"), DIGEST).serialize(),
        lambda store: records_of(store).exists(DIGEST),
    ),
    f"checkpoints/{DIGEST}": (b"state", lambda store: StageCheckpoint(store, DIGEST).load()),
    f"artifacts/{DIGEST}/manifest.json": (b"{}", lambda store: list(store.manifests())),
}
"""Files of a store, and what reads them."""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "endless"])
def test_nothing_but_small_files_inside_a_store_is_read(
    local_store: Store, tmp_path: Path, name: str, kind: str
) -> None:
    content, read = READERS[name]
    path = Path(local_store.root) / name
    local_store.put(str(path), content)
    if "manifest" not in name:
        assert read(local_store)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    assert not read(local_store)
    surveyed = survey(local_store)
    usage(local_store, surveyed, read_runs(local_store, surveyed.inventory.records))


@pytest.mark.timeout(60)
def test_a_sign_of_collecting_that_is_a_pipe_is_anothers(local_store: Store) -> None:
    Path(local_store.root).mkdir()
    os.mkfifo(f"{local_store.root}/collecting")
    with pytest.raises(StoreBusyError):
        collect(local_store, survey(local_store), Forgotten())


def test_what_stands_in_place_of_a_manifest_or_a_folder_is_told(local_store: Store) -> None:
    digest, payload = stored(local_store)
    folder = payload.parent
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()
    assert "manifest.json is not a regular file" in str(local_store.verify(digest))
    assert list(local_store.manifests()) == []
    folder.rename(folder.with_name("away"))
    folder.write_bytes(b"")
    assert "is not a folder" in str(local_store.verify(digest))


@pytest.mark.parametrize("promised", [MANY, 1 << 59])
def test_a_payload_is_as_large_as_its_bytes(local_store: Store, promised: int) -> None:
    digest, payload = stored(local_store)
    path = payload.parent / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][0]["bytes"] = promised
    del manifest["checksum"]
    manifest["checksum"] = hashlib.sha256(canonical_json(manifest)).hexdigest()
    path.write_text(json.dumps(manifest))
    with pytest.raises(DamagedArtifactError, match="has 7 bytes"):
        local_store.read(digest, "payload.bin")


def test_a_file_of_tensors_runs_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for name in ("CIFAR_ims", "CIFAR_lab"):
        torch.save([Touch(trace)], tmp_path / name)
    with pytest.raises(AdvfeatError, match="no complete file of only tensors"):
        describe(f"torch:{tmp_path}")
    assert not trace.exists()
