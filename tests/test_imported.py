"""Finished data sets: every form of the same one teaches the same, and what is none is refused beforehand."""

import json
import pickle
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from advfeat.data.imported import describe, pieces
from advfeat.datasets.stored_rows import stored_tables
from advfeat.errors import InputError
from advfeat.files.parts import GROUP_BYTES
from advfeat.files.tables import bytes_column, image_array, image_column, int_array, with_image_shape
from advfeat.planning import (
    Plan,
    build_grid_plan,
    build_plan,
    grid_report,
    load_experiment,
    load_grid,
    points,
    title_of,
)
from advfeat.stages.imported import imported_tables
from advfeat.storage import Store
from tests.inline import compute, compute_all
from tests.servers import BUCKET, s3_client

QUICK = ("seeds=[0]", "data.train_size=600", "source.epochs=4", "target.epochs=4", "attack.steps=5")
RNG = np.random.default_rng(0)
IMAGES = RNG.random((40, 1, 8, 8), np.float32)
LABELS = RNG.integers(0, 10, 40)


def torch_lists(folder: Path, images: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    """Write the published layout as it was written then: a list of batches, in torch's old format."""
    for name, array in (("CIFAR_ims", images), ("CIFAR_lab", labels)):
        batches = list(torch.from_numpy(array).split(17))
        torch.save(batches, folder / name, _use_new_zipfile_serialization=False)
    return f"torch:{folder}"


def published(folder: Path, images: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    """Write the same as a GPU's tensors: the file says where each was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.serialization.location_tag", lambda _: "cuda:0")
        return torch_lists(folder, images, labels)


def torch_tensors(folder: Path, images: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    torch.save(torch.from_numpy(images), folder / "CIFAR_ims")
    torch.save(torch.from_numpy(labels), folder / "CIFAR_lab")
    return f"torch:{folder}"


def numpy_arrays(folder: Path, images: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    np.savez(folder / "set.npz", images=images.transpose(0, 2, 3, 1), labels=labels)
    return f"numpy:{folder}/set.npz"


def parquet(folder: Path, images: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    table = pa.table({"image": image_column(images), "label": labels})
    pq.write_table(with_image_shape(table, images.shape[1:]), folder / "train.parquet", row_group_size=13)
    return f"parquet:{folder}"


def parquet_lists(folder: Path, images: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    """Write lists of any length, as pandas does."""
    table = pa.table({"image": list(images.reshape(len(images), -1)), "label": labels})
    pq.write_table(with_image_shape(table, images.shape[1:]), folder / "set.parquet")
    return f"parquet:{folder}/set.parquet"


FORMS = (torch_lists, published, torch_tensors, numpy_arrays, parquet, parquet_lists)
Form = Callable[[Path, NDArray[np.float32], NDArray[np.int64]], str]


@pytest.fixture(scope="module")
def d_rand(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Plan]:
    store = Store(str(tmp_path_factory.mktemp("store")))
    plan = build_plan(load_experiment("digits", [*QUICK, "recipes=[d_rand]"]))
    compute_all(plan, store)
    return store, plan


@pytest.mark.parametrize("form", FORMS)
def test_a_data_set_that_comes_back_teaches_what_it_taught(
    d_rand: tuple[Store, Plan], tmp_path: Path, form: Form
) -> None:
    store, plan = d_rand
    made = plan.report.inputs["d_rand/0/dataset"]
    table = pa.concat_tables(stored_tables(store, made))
    location = form(tmp_path, image_array(table, np.float32), int_array(table, "label"))
    again = build_plan(load_experiment("digits", [*QUICK, "recipes=[imported]", f"imported={location}"]))
    compute_all(again, store)

    back = pa.concat_tables(stored_tables(store, again.report.inputs["imported/0/dataset"]))
    assert back.column_names == table.column_names
    assert np.array_equal(image_array(back, np.float32), image_array(table, np.float32))
    assert back.column("original_label").null_count == back.num_rows
    predictions = [
        store.read(report.inputs[f"{recipe}/0/evaluation"], "predictions.parquet")
        for report, recipe in ((plan.report, "d_rand"), (again.report, "imported"))
    ]
    assert predictions[0] == predictions[1], "images and labels alone decide"
    (row,) = json.loads(store.read(again.report.digest, "rows.json"))
    assert row["test_accuracy"] > 0.5
    assert row["train_size"] == 600
    assert row["wrong_label_share"] is None
    assert "true label <b>unknown</b>" in store.read(again.report.digest, "report.html").decode()


def test_a_data_set_of_the_store_can_be_named_where_it_lies(d_rand: tuple[Store, Plan]) -> None:
    store, plan = d_rand
    location = f"parquet:{store.artifact_uri(plan.report.inputs['d_rand/0/dataset'])}"
    assert describe(location).size == 600


def test_files_that_a_manifest_does_not_name_are_not_read(d_rand: tuple[Store, Plan], tmp_path: Path) -> None:
    """They lie beside an artifact that was repaired, or that two writers made."""
    store, plan = d_rand
    whole = Path(store.artifact_uri(plan.report.inputs["d_rand/0/dataset"]))
    folder = Path(shutil.copytree(whole, tmp_path / "artifact"))
    (file,) = folder.glob("*.parquet")
    shutil.copy(file, folder / file.name.replace("train-", "train-1"))
    assert describe(f"parquet:{folder}") == describe(f"parquet:{whole}")
    manifest = folder / "manifest.json"
    for damaged in (b"", b"{}", b"[" * 100_000, manifest.read_bytes().replace(b'"train_size"', b'"size"')):
        manifest.write_bytes(damaged)
        with pytest.raises(InputError, match=r"^imported: .*manifest\.json .*docs/recipes/imported\.md\)$"):
            describe(f"parquet:{folder}")


def test_one_import_serves_all_seeds_and_targets(tmp_path: Path, local_store: Store) -> None:
    locations = []
    for name, images in (("one", IMAGES), ("two", 1 - IMAGES)):
        (tmp_path / name).mkdir()
        locations.append(torch_lists(tmp_path / name, images, LABELS))
    wanted = [
        f"imported=[{', '.join(locations)}]",
        "seeds=[0,1]",
        "target_model=[mlp,cnn]",
        "target_epochs=1",
    ]
    grid = load_grid("imported", wanted)
    found = points("imported", grid)
    plan = build_grid_plan(found)
    kinds = [stage.kind for stage in plan.stages]
    assert (kinds.count("dataset"), kinds.count("target_model"), len(found)) == (2, 8, 8)
    assert "torch:" in title_of("imported", grid)
    for stage in plan.stages:
        compute(stage, local_store)
    report = grid_report("imported", found, plan.made_of)
    compute(report, local_store)
    rows = json.loads(local_store.read(report.digest, "rows.json"))
    assert [row["axes"]["imported"] for row in rows] == [*4 * locations[:1], *4 * locations[1:]]


def test_the_published_files_are_read_as_their_readme_reads_them(tmp_path: Path) -> None:
    images, labels = RNG.random((50, 3, 32, 32), np.float32), RNG.integers(0, 10, 50)
    folder = tmp_path / "release_datasets/drand_CIFAR"
    folder.mkdir(parents=True)
    location = published(folder, images, labels)
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(folder / "CIFAR_ims")
    joined = torch.cat(torch.load(folder / "CIFAR_ims", map_location="cpu"))
    ((read, read_labels),) = pieces(location, 64)
    assert np.array_equal(read, joined.numpy())
    assert np.array_equal(read_labels, labels)
    assert describe(location).image_shape == (3, 32, 32)


def test_from_s3(tmp_path: Path, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    for form in (torch_lists, torch_tensors, parquet, numpy_arrays):
        folder = tmp_path / form.__name__
        folder.mkdir()
        here = form(folder, IMAGES, LABELS)
        s3_client(s3).put(str(folder), f"{BUCKET}/finished/{form.__name__}", recursive=True)
        there = here.replace(str(tmp_path), f"s3://{BUCKET}/finished")
        assert describe(there) == describe(here)
        ((images, labels),) = pieces(there, 64)
        assert np.array_equal(images, IMAGES)
        assert np.array_equal(labels, LABELS)


@settings(max_examples=40, deadline=None)
@given(form=st.sampled_from(FORMS), count=st.integers(1, 40), size=st.integers(1, 50))
def test_pieces_are_of_one_size_whatever_the_files_hold(
    tmp_path_factory: pytest.TempPathFactory, form: Form, count: int, size: int
) -> None:
    location = form(tmp_path_factory.mktemp("set"), IMAGES[:count], LABELS[:count])
    found = list(pieces(location, size))
    assert all(len(images) == len(labels) == size for images, labels in found[:-1])
    assert np.array_equal(np.concatenate([images for images, _ in found]), IMAGES[:count])
    assert np.array_equal(np.concatenate([labels for _, labels in found]), LABELS[:count])


def test_bytes_and_rounding_become_pixels(tmp_path: Path) -> None:
    whole = RNG.integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    ((images, _),) = pieces(torch_tensors(tmp_path, whole, LABELS[:5]), 8)  # type: ignore[arg-type]
    assert np.array_equal(images, whole.astype(np.float32) / np.float32(255))
    table = pa.table({"image": [image.tobytes() for image in whole], "label": LABELS[:5]})
    pq.write_table(with_image_shape(table, (1, 8, 8)), tmp_path / "bytes.parquet")
    ((read, _),) = pieces(f"parquet:{tmp_path}/bytes.parquet", 8)
    assert np.array_equal(read, images)
    ((images, _),) = pieces(torch_tensors(tmp_path, IMAGES[:5] * np.float32(1.001), LABELS[:5]), 8)
    assert images.max() <= 1


def test_the_digest_follows_the_bytes_not_the_place(tmp_path: Path) -> None:
    def digest(name: str, labels: NDArray[np.int64]) -> str:
        folder = tmp_path / name
        folder.mkdir()
        location = torch_tensors(folder, IMAGES, labels)
        plan = build_plan(load_experiment("digits", ["recipes=[imported]", f"imported={location}"]))
        return plan.report.inputs["imported/0/dataset"]

    assert digest("one", LABELS) == digest("two", LABELS) != digest("three", 9 - LABELS)


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code of anybody's ran",)


@pytest.mark.parametrize(
    ("images", "labels", "problem"),
    [
        (torch.from_numpy(IMAGES), torch.from_numpy(LABELS[:39]), "has 40 images and 39 labels"),
        (
            torch.from_numpy(IMAGES),
            torch.from_numpy(LABELS + 1),
            "has label 10, the data have the classes 0 to 9",
        ),
        (torch.from_numpy(IMAGES), torch.from_numpy(LABELS / 2), "has labels of type float32"),
        (torch.from_numpy(IMAGES), torch.eye(40), "labels in CIFAR_lab that are not one a row"),
        (torch.from_numpy(IMAGES * 2), torch.from_numpy(LABELS), "outside [0, 1]"),
        (torch.from_numpy(IMAGES * np.float32("nan")), torch.from_numpy(LABELS), "outside [0, 1]"),
        (
            torch.rand(40, 3, 8, 8),
            torch.from_numpy(LABELS),
            "has images of 3 x 8 x 8, the data's are 1 x 8 x 8",
        ),
        (torch.rand(40, 64), torch.from_numpy(LABELS), "has images of shape (40, 64) in CIFAR_ims"),
        (
            [torch.rand(20, 1, 8, 8), torch.rand(20, 1, 8, 9)],
            torch.from_numpy(LABELS),
            "not all of one (N, C, H, W)",
        ),
        (torch.zeros(1).expand(40, 1, 8, 10**9), torch.from_numpy(LABELS), "larger than the file"),
        ([], torch.from_numpy(LABELS), "holds no tensor and no list of tensors in CIFAR_ims"),
        ({"images": 1}, torch.from_numpy(LABELS), "holds no tensor and no list of tensors in CIFAR_ims"),
        (Code(), torch.from_numpy(LABELS), "holds no complete file of only tensors in CIFAR_ims"),
        (torch.zeros(40, 1, 8, 8, dtype=torch.int32), torch.from_numpy(LABELS), "has images of type int32"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_before_anything_is_computed(
    tmp_path: Path, images: object, labels: object, problem: str, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.save(images, tmp_path / "CIFAR_ims")
    torch.save(labels, tmp_path / "CIFAR_lab")
    with pytest.raises(InputError) as refused:
        build_plan(load_experiment("digits", ["recipes=[imported]", f"imported=torch:{tmp_path}"]))
    assert problem in str(refused.value)
    assert str(refused.value).startswith("imported: ")
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "content", [b"", b"no pickle", pickle.dumps(Code(), protocol=2), pickle.dumps([1, 2])]
)
def test_other_files_under_the_published_names(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    torch_lists(tmp_path, IMAGES, LABELS)
    (tmp_path / "CIFAR_ims").write_bytes(content)
    with pytest.raises(InputError) as refused:
        describe(f"torch:{tmp_path}")
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_truncated_file_is_refused(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("set")
    location = draw.draw(st.sampled_from((torch_lists, torch_tensors, parquet)))(folder, IMAGES, LABELS)
    path = draw.draw(st.sampled_from(sorted(folder.iterdir())))
    whole = path.read_bytes()
    path.write_bytes(whole[: draw.draw(st.integers(0, 1 << 20)) % len(whole)])  # torch varies the length
    with pytest.raises(InputError, match=r"^imported: "):
        describe(location)


@pytest.mark.parametrize(
    ("imported", "problem"),
    [
        ("null", "needs the field imported"),
        (
            "robust_CIFAR",
            "imported: 'robust_CIFAR' has none of the forms that are known; expected: imported: the",
        ),
        ("torch:nowhere", "holds no file CIFAR_ims"),
        ("numpy:nowhere", "does not exist"),
        ("parquet:nowhere", "does not exist"),
    ],
)
def test_places_without_a_data_set(imported: str, problem: str) -> None:
    with pytest.raises(InputError) as refused:
        build_plan(load_experiment("digits", ["recipes=[imported]", f"imported={imported}"]))
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("shape", "metadata", "problem"),
    [
        ((1, 8, 7), None, "has images in"),
        ((1, 8, 8), b"{}", "says no image_shape"),
        ((1, 8, 8), b"[" * 100_000, "says no image_shape"),
        ((1, 8, 8), b'{"image_shape": [64]}', "says no image_shape"),
        ((1, 8, 8), b'{"image_shape": [-1, -8, 8]}', "says no image_shape"),
        ((1, 8, 8), b'{"image_shape": [1, 0, 8]}', "says no image_shape"),
        ((1, 8, 8), b'{"image_shape": [Infinity, 1, 1]}', "says no image_shape"),
        ((1, 8, 8), b'{"image_shape": [1048576, 1048576, 1048576]}', "has images in"),
    ],
)
def test_tables_whose_pixels_are_not_of_the_shape_they_say(
    tmp_path: Path, shape: tuple[int, ...], metadata: bytes | None, problem: str
) -> None:
    table = with_image_shape(pa.table({"image": image_column(IMAGES), "label": LABELS}), shape)
    if metadata is not None:
        table = table.replace_schema_metadata({b"advfeat": metadata})
    pq.write_table(table, tmp_path / "set.parquet")
    with pytest.raises(InputError, match=problem):
        describe(f"parquet:{tmp_path}/set.parquet")
    pq.write_table(table.replace_schema_metadata({}), tmp_path / "set.parquet")
    with pytest.raises(InputError, match="no encoded pictures"):
        describe(f"parquet:{tmp_path}/set.parquet")


def test_a_grid_without_a_data_set() -> None:
    with pytest.raises(InputError, match=r"^imported: .* is missing"):
        load_grid("imported", [])


def test_pictures_in_the_hugging_face_layout_can_be_imported_too(tmp_path: Path) -> None:
    from tests.test_data import LABELS as REAL_LABELS
    from tests.test_data import PICTURES, write_parquet

    write_parquet(tmp_path / "train.parquet", range(30))
    ((images, labels),) = pieces(f"parquet:{tmp_path}", 64)
    assert np.array_equal(np.round(images * 255), PICTURES.transpose(0, 3, 1, 2))
    assert np.array_equal(labels, REAL_LABELS)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train.parquet", "test.parquet"),
        ("train/0000.parquet", "test/0000.parquet"),
        ("default/partial-train/0000.parquet", "default/partial-test/0000.parquet"),
        ("train/0000.parquet", "validation/0000.parquet"),
        ("train/train-0.parquet", "train/val-0.parquet"),
        ("train-set/0.parquet", "train-set/test/more/0.parquet"),
        ("test-folder/train-0.parquet", "test-folder/0.parquet"),
    ],
)
def test_nothing_is_learned_from_other_splits(tmp_path: Path, train: str, test: str) -> None:
    from tests.test_data import write_parquet

    folder = tmp_path / "test"  # what lies above the folder that is named does not count
    write_parquet(folder / train, range(20))
    write_parquet(folder / test, range(20, 30))
    assert describe(f"parquet:{folder}").size == 20
    (folder / train).unlink()
    with pytest.raises(InputError, match="none of train"):
        describe(f"parquet:{folder}")


def test_files_that_tell_no_split_are_all_read(tmp_path: Path) -> None:
    from tests.test_data import write_parquet

    write_parquet(tmp_path / "train" / "0.parquet", range(20))
    write_parquet(tmp_path / "train" / "values.parquet", range(20, 30))
    assert describe(f"parquet:{tmp_path}/train").size == 30


@pytest.mark.parametrize("as_bytes", [False, True])
def test_large_images_are_brought_in_a_row_group_at_a_time(tmp_path: Path, as_bytes: bool) -> None:
    """As float32 these are 154 MB, a row group of them is 16."""
    images, labels = RNG.integers(0, 256, (256, 3, 224, 224), dtype=np.uint8), np.arange(256) % 10
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    location = f"numpy:{tmp_path}"
    if as_bytes:
        table = with_image_shape(pa.table({"image": bytes_column(images), "label": labels}), (3, 224, 224))
        pq.write_table(table, tmp_path / "set.parquet", use_dictionary=False)
        location = f"parquet:{tmp_path}/set.parquet"
    tracemalloc.start()
    sizes = [table.num_rows for table in imported_tables(location)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sizes == [27] * 9 + [13]
    assert peak < 8 * GROUP_BYTES
