"""A place is what its name says, for stores, exports and data, whatever characters it has."""

import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from advfeat import data
from advfeat.data.imported import describe
from advfeat.errors import InputError
from advfeat.export.destination import Destination
from advfeat.files.place import local_path, place_of
from advfeat.flows.python_api import plan
from advfeat.flows.report_copy import local_copy
from advfeat.spec import DataSpec
from advfeat.storage import Stage, Store
from advfeat.storage.runs import RunRecord, keep_record, read_records

STAGE = Stage(kind="leakage", title="leakage", parameters={"eps": 0.5}, inputs={})
RECORD = RunRecord(run="1", flow="f", title="t", state="running", began="2026-01-01T00:00Z")
ODD = " %#?[]*!{}'\"\\\n\t:;&$~+=@,`|<>()-.éüßñ中م😀🧪"
NAMES = (
    st.text(st.sampled_from(ODD + "ab0") | st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
    | st.text("ab c%#é", min_size=190, max_size=200)
    | st.sampled_from(
        [*"~-#%?*[", "my exp", "my%20exp", "100%", "a::b", "s3:", "file:", "file:x", "~nobody", "[ab]", "-rf"]
    )
).filter(lambda name: name not in (".", "..") and not {"/", "\0"} & set(name) and len(name.encode()) <= 250)


@contextmanager
def working_folder() -> Iterator[Path]:
    """Give an empty folder, which is the current one meanwhile."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="places [a]*%20 ") as folder:
        os.chdir(folder)
        try:
            yield Path(folder).resolve()
        finally:
            os.chdir(before)


def spellings(path: Path) -> list[Any]:
    """Name a path of the current folder in every way there is."""
    return [str(path), path, f"./{path.name}", f"file://{quote(str(path))}", f"local://{path}"]


def written(store: Store) -> str:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "payload.bin").write_bytes(b"x")
        return {"test_accuracy": 0.5}

    return store.write_stage(STAGE, build).digest


@settings(max_examples=200)
@given(NAMES, st.integers(0, 4))
def test_a_store_lies_where_its_name_says(name: str, way: int) -> None:
    with working_folder() as folder:
        store = Store(folder / name)
        store.check_writable()
        digest = written(store)
        assert [path.name for path in folder.iterdir()] == [name]
        assert (folder / name / "artifacts" / digest / "manifest.json").is_file()
        keep_record(
            store, RunRecord(run="1", flow="f", title="t", state="running", began="2026-01-01T00:00Z")
        )
        for named in (spellings(folder / name)[way], store.uri):
            found = Store(named)
            assert (found.digests(), found.verify(digest), found.uri) == ([digest], None, store.uri)
            assert [record.run for record in read_records(found)] == ["1"]


@settings(max_examples=200)
@given(NAMES, st.integers(0, 4))
def test_an_export_lies_where_its_name_says(name: str, way: int) -> None:
    with working_folder() as folder:
        with Destination(spellings(folder / name)[way]).filled() as (inside, _):
            (inside / "README.md").write_text("read me", encoding="utf-8")
        assert [path.name for path in folder.iterdir()] == [name]
        assert (folder / name / "README.md").read_text(encoding="utf-8") == "read me"
        with pytest.raises(InputError, match="is not empty"):
            Destination(folder / name)


IMAGES = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3), dtype=np.uint8)
LABELS = np.arange(8) % 2


def write_arrays(place: Path) -> None:
    np.save(place / "images", IMAGES)
    np.save(place / "labels", LABELS)


def write_pictures(place: Path) -> None:
    for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        (place / str(label)).mkdir(exist_ok=True)
        Image.fromarray(image).save(place / str(label) / f"{number}.png")


def write_table(place: Path) -> None:
    pictures = []
    for image in IMAGES:
        content = io.BytesIO()
        Image.fromarray(image).save(content, "png")
        pictures.append({"bytes": content.getvalue()})
    pq.write_table(pa.table({"image": pictures, "label": LABELS}), place / "all.parquet")


@pytest.fixture(scope="module", params=["numpy", "folder", "parquet"])
def images(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A kind of source of images, and a folder of such."""
    place = tmp_path_factory.mktemp("images")
    {"numpy": write_arrays, "folder": write_pictures, "parquet": write_table}[request.param](place)
    return request.param, place


@settings(max_examples=40)
@given(NAMES, st.integers(0, 4))
@example("my pics #1", 0)
def test_images_are_read_where_their_name_says(images: tuple[str, Path], name: str, way: int) -> None:
    kind, place = images
    with working_folder() as folder:
        shutil.copytree(place, folder / name)
        spec = DataSpec(source=f"{kind}:{spellings(folder / name)[way]}", test_fraction=0.5)
        plain = DataSpec(source=f"{kind}:{place}", test_fraction=0.5)
        assert data.open_source(spec).identity() == data.open_source(plain).identity()
        assert data.sizes(data.absolute(spec)) == (4, 4)
        if kind == "numpy":
            assert describe(spec.source).size == 8


def test_places_that_travel_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    for named in (tmp_path.name, f"~/{tmp_path.name}", f"./{tmp_path.name}/../{tmp_path.name}"):
        assert data.absolute(DataSpec(source=f"folder:{named}")).source == f"folder:{tmp_path}"
        assert local_path(named) == tmp_path
    assert data.absolute(DataSpec(source="digits")).source == "digits"


@pytest.mark.parametrize(
    ("uri", "root"),
    [
        ("s3://bucket/a b%20c#d", "bucket/a b%20c#d"),
        ("s3://bucket/a::file?x[1]*/", "bucket/a::file?x[1]*"),
        ("memory://a b%20c#d", "/a b%20c#d"),
        ("file://localhost/tmp/my%20exp", "/tmp/my exp"),
        ("FILE:///tmp/caf%C3%A9%23", "/tmp/café#"),
        ("local:///tmp/my%20exp", "/tmp/my%20exp"),
        ("file:/tmp/my%20exp", "/tmp/my exp"),
        ("S3://bucket/x/", "bucket/x"),
        ("s3a://bucket/x", "bucket/x"),
    ],
)
def test_uris_mean_what_they_say(uri: str, root: str) -> None:
    assert place_of(uri).root == root


@pytest.mark.parametrize(
    "named",
    [
        *(
            "",
            "a\0b",
            "s3://",
            "nonsense://x",
            "a\udcffb",
            "file:///%ff",
            "file://",
            "file://host/x",
            "s3:///x",
        ),
        *("file://relative/x", "s3:/bucket/x", "http:/x", "zip://x", "ftp://127.0.0.1:9/x"),
    ],
)
def test_what_is_no_place_is_refused_in_one_line(named: str) -> None:
    with pytest.raises(InputError, match="is not a usable URI"):
        Store(named)
    with pytest.raises(InputError, match="is not a usable URI"):
        Destination(named)


def test_relative_uris_of_this_machine_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for named in ("file://./a%20b", "file://../" + tmp_path.name + "/a%20b", "file://~/a%20b", "./a b"):
        assert place_of(named).root == f"{tmp_path}/a b"
    assert place_of("./s3:/b").root == f"{tmp_path}/s3:/b", "a folder of that name"


@pytest.mark.parametrize(
    ("named", "problem"),
    [
        ("/", "whole file system"),
        ("/dev/null", "is not a folder|cannot be written"),
        ("memory://x", "one process"),
    ],
)
def test_what_can_be_no_store_is_told(named: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Store(named).check_writable()
    if named == "/dev/null":
        with pytest.raises(InputError, match="is not a folder"):
            Store(named).check_readable()


def test_a_store_at_a_quoted_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "my%20exp").mkdir()
    digest = written(Store(tmp_path / "my%20exp"))
    with pytest.raises(InputError, match=r"was written to '.*/my%20exp' by an earlier version") as told:
        plan(store=tmp_path / "my exp")
    move = str(told.value).partition("move it: ")[2].partition(" (or")[0]
    subprocess.run(["bash", "-c", move], check=True)
    assert Store(tmp_path / "my exp").digests() == [digest]


def test_nothing_but_a_failed_export_is_deleted_elsewhere() -> None:
    kept = place_of("memory://exports/ab")
    kept.fs.pipe_file(f"{kept.root}/file", b"mine")

    def fail() -> None:
        with Destination("memory://exports/*").filled() as (folder, hand_over):
            (folder / "a[b]").write_bytes(b"x")
            hand_over()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert kept.below() == [f"{kept.root}/file"]
    assert place_of("memory://exports/*").below() == []


@pytest.mark.parametrize("name", ["a/b", "../../x", "😀" * 80, "100 %", ".."])
def test_a_report_has_a_file_whatever_the_name(
    name: str, local_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stage = Stage(kind="report", title="report", parameters={}, inputs={})

    def build(folder: Path) -> dict[str, Any]:
        (folder / "report.html").write_bytes(b"<html>")
        return {}

    page = local_copy(local_store, local_store.write_stage(stage, build).digest, name)
    assert page.parent == tmp_path / ".advfeat" / "reports"
    assert page.read_bytes() == b"<html>"
