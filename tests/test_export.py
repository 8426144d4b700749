"""Exports: other libraries read them, a network learns from them, and no bit is lost unless asked for."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import dask.dataframe
import datasets
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest
import torch
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from advfeat import data
from advfeat.datasets.stored_rows import stored_tables
from advfeat.errors import DamagedArtifactError, InputError
from advfeat.evaluation import predict
from advfeat.export import FORMATS, export, split
from advfeat.export.class_folders import folder_names
from advfeat.export.destination import Destination
from advfeat.export.pixels import Precision, quantized
from advfeat.files.tables import float_array, image_array, int_array, regrouped
from advfeat.flows.command_line import cli
from advfeat.planning import Plan, build_plan, load_experiment
from advfeat.spec import DataSpec
from advfeat.stages.images import read_split
from advfeat.stages.model import read_model
from advfeat.storage import Store
from tests.command import unconfigured
from tests.datasets_page import EXPORTS, LEARNING, LOADING, UPLOADS, WITH_RAY
from tests.inline import compute
from tests.servers import BUCKET


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Plan]:
    store = Store(str(tmp_path_factory.mktemp("store")))
    quick = ["seeds=[0]", "source.epochs=6", "attack.steps=10", "shards=1"]
    plan = build_plan(load_experiment("digits", [*quick, "recipes=[d_rand,distillation]"]))
    for stage in plan.stages:
        if stage.kind in {"images", "source_model", "shard", "dataset"}:
            compute(stage, store)
    return store, plan


def digest_of(made: tuple[Store, Plan], title: str) -> str:
    (stage,) = [stage for stage in made[1].stages if stage.title == title]
    return stage.digest


@pytest.fixture(scope="module")
def d_rand(made: tuple[Store, Plan]) -> str:
    return digest_of(made, "data set d_rand, seed 0")


@pytest.fixture(scope="module")
def exported(made: tuple[Store, Plan], d_rand: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all exports lie that the page on data sets makes."""
    folder = tmp_path_factory.mktemp("exports")
    digests = {"DATA": d_rand, "IMAGES": made[1].stages[0].digest}
    assert len(EXPORTS) == 7
    for name, destination, to, precision in EXPORTS:
        export(made[0], digests[name], to, str(folder / destination), precision or None)
    return folder


def learned(block: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the page's lines that load an export, then those that learn from it; return what they define."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
    names: dict[str, Any] = {"__name__": "page"}
    for part in (block, LEARNING):
        exec(compile(part, "docs/datasets.md", "exec"), names)
    return names


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in LOADING if block != WITH_RAY])
def test_what_the_page_loads_teaches_the_true_classes(
    block: str, exported: Path, made: tuple[Store, Plan], d_rand: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_it_is_the_data_set(learned(block, exported, monkeypatch), made, d_rand)


def assert_it_is_the_data_set(names: dict[str, Any], made: tuple[Store, Plan], d_rand: str) -> None:
    images, labels = stored(made[0], d_rand)
    order = np.lexsort(names["labels"][None].numpy())  # ImageFolder sorts by class
    expected = np.argsort(labels, kind="stable")
    assert np.array_equal(names["labels"].numpy()[order], labels[expected])
    assert np.abs(names["images"].numpy()[order] - images[expected]).max() <= 0.5 / 255 + 1e-6
    assert names["accuracy"] > 0.6, "wrong labels teach the true classes; chance is 0.1"


def stored(store: Store, digest: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    table = pa.concat_tables(stored_tables(store, digest))
    return image_array(table, np.float32), int_array(table, "label")


def test_cards_come_with_every_export(exported: Path) -> None:
    for _, name, to, _ in EXPORTS:
        page, described = card_at(exported / name, to)
        assert page.read_text().count("---") > 1
        assert json.loads(described.read_text())["exported"]["format"] == to
        assert {path.suffix for path in (exported / name).rglob("*") if to == "parquet"} <= {"", ".parquet"}


def card_at(folder: Path, to: str) -> tuple[Path, Path]:
    """A card's page and its JSON: in the folder of an export, of Parquet beside it."""
    start = f"{folder}." if to == "parquet" else f"{folder}/"
    return Path(f"{start}README.md"), Path(f"{start}card.json")


def of_a_frame(rows: pd.DataFrame) -> dict[str, NDArray[Any]]:
    return {str(name): stacked(column.to_numpy()) for name, column in rows.items()}


def stacked(column: NDArray[Any]) -> NDArray[Any]:
    return np.stack(list(column)) if column.dtype == object else column


def by_duckdb(name: str) -> dict[str, NDArray[Any]]:
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT * FROM {name}").fetchnumpy()
    return {column: stacked(np.asarray(values)) for column, values in found.items()}


READERS: dict[str, Callable[[str], dict[str, NDArray[Any]]]] = {
    "pandas": lambda folder: of_a_frame(pd.read_parquet(folder)),
    "Dask": lambda folder: of_a_frame(dask.dataframe.read_parquet(folder).compute()),
    "Polars": lambda folder: {part.name: part.to_numpy() for part in pl.read_parquet(folder)},
    "Polars, lazily": lambda folder: {
        part.name: part.to_numpy() for part in pl.scan_parquet(folder).collect()
    },
    "DuckDB": lambda folder: by_duckdb(f"'{folder}/**/*.parquet'"),
    "DuckDB, by its function": lambda folder: by_duckdb(f"read_parquet('{folder}')"),
    "Arrow": lambda folder: of_a_frame(pyarrow.dataset.dataset(folder).to_table().to_pandas()),
}
"""What reads a folder of Parquet by its name, and gives its columns; images are (N, C·H·W)."""


@pytest.fixture(scope="module")
def in_pieces(made: tuple[Store, Plan], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with soft labels, in five files and each precision, in folders of its name."""
    folder = tmp_path_factory.mktemp("pieces")
    digest = digest_of(made, "data set distillation, seed 0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split, "_BYTES_PER_PIECE", 300 * 4 * 64)
        for precision in get_args(Precision):
            export(made[0], digest, "parquet", str(folder / precision), precision)
    return folder


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("precision", get_args(Precision))
def test_parquet_is_read_by_the_name_of_its_folder(
    reader: str, precision: Precision, in_pieces: Path, made: tuple[Store, Plan]
) -> None:
    found = READERS[reader](str(in_pieces / precision))
    table = pa.concat_tables(stored_tables(made[0], digest_of(made, "data set distillation, seed 0")))
    images = quantized(image_array(table, np.float32), precision).reshape(-1, 64)
    soft = float_array(table, "soft_label")
    others = table.drop_columns(["image", "soft_label"])
    expected = {name: others.column(name).to_numpy() for name in others.column_names}
    expected |= {"image": images, "soft_label": soft}
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        kind = np.dtype("float32") if "DuckDB" in reader and values.dtype == np.float16 else values.dtype
        assert (found[name].dtype, found[name].shape) == (kind, values.shape), name
        assert np.array_equal(found[name], values), name


def test_parquet_with_a_test_split_is_read_by_the_name_of_each(exported: Path) -> None:
    both = datasets.load_dataset(str(exported / "digits"), cache_dir=str(exported / "cache"))
    assert {split: len(part) for split, part in both.items()} == {"train": 1258, "test": 539}
    for read in READERS.values():
        sizes = [len(read(f"{exported}/digits{split}")["label"]) for split in ("", "/train", "/test")]
        assert sizes == [1797, 1258, 539]


def test_the_hub_gets_the_real_test_images_beside_a_data_set(
    made: tuple[Store, Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split, "_BYTES_PER_PIECE", 300 * 4 * 64)
    folder = tmp_path / "out"
    card = export(made[0], digest_of(made, "data set distillation, seed 0"), "hf", str(folder))
    assert card.splits == {"train": 1258, "test": 539}
    assert sum(card.class_balance["test"].values()) == 539
    rows = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in rows.items()} == card.splits
    real = read_split(made[0], made[1].stages[0].digest, "test")
    test = rows["test"].with_format("numpy")
    assert np.array_equal(test["image"][:], real.images[:, 0])
    assert np.array_equal(test["label"][:], real.labels)
    assert np.array_equal(test["original_label"][:], real.labels)
    assert np.array_equal(test["index"][:], np.arange(539))
    assert not np.any(test["perturbation_norm"][:])
    assert set(rows["test"]["source_prediction_after"][:]) == {None}
    assert set(rows["test"]["soft_label"][:]) == {None}
    # What the card says of the columns is what the files say.
    front = DatasetCard.load(folder / "README.md").data
    told = datasets.info.DatasetInfosDict.from_dataset_card_data(front)["default"].features
    assert told == rows["train"].features == rows["test"].features
    files = [entry["path"] for entry in front.get("configs")[0]["data_files"]]
    assert [len(list(folder.glob(pattern))) for pattern in files] == [5, 2]
    assert front.get("task_categories") == ["image-classification"]
    assert (front.get("license"), front.get("size_categories")) == ("cc-by-4.0", ["1K<n<10K"])


def test_the_line_that_uploads_needs_nothing_but_the_network(exported: Path, tmp_path: Path) -> None:
    (line,) = UPLOADS
    program, *words = shlex.split(line)
    done = subprocess.run(
        [Path(sys.executable).parent / program, *words],
        cwd=exported,
        env={**unconfigured(), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, "a folder or an option that is wrong would end it otherwise"
    assert "offline mode is enabled" in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["d_rand-parquet", "d_rand-hf", "d_rand-webdataset", "d_rand-folder"])
def test_hugging_face_reads_the_folder_by_its_card(
    name: str, exported: Path, made: tuple[Store, Plan]
) -> None:
    rows = datasets.load_dataset(str(exported / name), cache_dir=str(exported / "cache"))
    test = {"test": 539} if name == "d_rand-hf" else {}
    assert {split: len(part) for split, part in rows.items()} == {"train": 1258, **test}
    found = rows["train"][7]
    record = found.get("json", found)
    assert {
        "index",
        "label",
        "original_label",
        "source_prediction_after",
        "perturbation_norm",
    } <= record.keys()


def test_float32_parquet_is_the_stored_data_set_to_the_bit(
    made: tuple[Store, Plan], d_rand: str, exported: Path
) -> None:
    table = pa.concat_tables(stored_tables(made[0], d_rand))
    for name in ("d_rand-parquet", "d_rand-uint8"):
        rows = pd.read_parquet(exported / name / "train")
        for column in set(table.column_names) - {"image"}:
            assert np.array_equal(rows[column], table.column(column).to_numpy())
    rows = pd.read_parquet(exported / "d_rand-parquet" / "train")
    assert np.stack(rows["image"].to_list()).tobytes() == image_array(table, np.float32).tobytes()


@pytest.mark.parametrize(("to", "precision"), [("parquet", "uint8"), ("torch", "float16"), ("hf", None)])
def test_success_after_quantization_is_that_of_the_exported_images(
    to: str, precision: str | None, made: tuple[Store, Plan], d_rand: str, tmp_path: Path
) -> None:
    card = export(made[0], d_rand, to, str(tmp_path / "out"), precision)
    images, labels = stored(made[0], d_rand)
    levels = images.astype(np.float16) if precision == "float16" else np.rint(255 * images) / np.float32(255)
    model = read_model(made[0], made[1].stages[1].digest)
    right = predict(model, torch.from_numpy(levels.astype(np.float32))) == labels
    assert card.exported is not None
    assert card.exported.attack_success == pytest.approx(right.mean())
    assert 0 < card.exported.largest_pixel_change <= 0.5 / 255 + 1e-6
    assert card.attack_success == pytest.approx((predict(model, torch.from_numpy(images)) == labels).mean())
    page, described = card_at(tmp_path / "out", to)
    assert json.loads(described.read_text())["exported"]["attack_success"] == card.exported.attack_success
    assert "attack success after quantization" in page.read_text()


def test_soft_labels_are_exported_too(made: tuple[Store, Plan], tmp_path: Path) -> None:
    card = export(made[0], digest_of(made, "data set distillation, seed 0"), "hf", str(tmp_path / "out"))
    rows = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert np.allclose(np.sum(rows["soft_label"][:50], axis=1), 1, atol=1e-5)
    assert card.exported is not None
    assert card.exported.attack_success is None, "nothing was attacked"


@pytest.mark.parametrize("to", ["hf", "folder"])
def test_pictures_of_real_images_come_back_as_they_were(
    to: str, made: tuple[Store, Plan], tmp_path: Path
) -> None:
    images = made[1].stages[0].digest
    export(made[0], images, to, str(tmp_path / "out"))
    source = {"hf": "parquet", "folder": "folder"}[to]
    again = data.load(DataSpec(source=f"{source}:{tmp_path / 'out'}"))
    assert again.classes == tuple("0123456789")
    for name, part in (("train", again.train), ("test", again.test)):
        original = read_split(made[0], images, name)
        order = np.argsort(original.labels, kind="stable") if to == "folder" else slice(None)
        assert np.array_equal(part.images, original.images[order])
        assert np.array_equal(part.labels, original.labels[order])


def test_many_pieces_hold_the_rows_of_one(
    made: tuple[Store, Plan], d_rand: str, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split, "_BYTES_PER_PIECE", 300 * 4 * 64)
    told: list[tuple[int, int]] = []
    for to in FORMATS:
        export(made[0], d_rand, to, str(tmp_path / to), progress=lambda *counts: told.append(counts))
    assert told[:5] == [(300, 1258), (600, 1258), (900, 1258), (1200, 1258), (1258, 1258)]
    for to, ending in (("parquet", "parquet"), ("hf", "parquet"), ("webdataset", "tar")):
        names = sorted(path.name for path in (tmp_path / to / "train").iterdir())
        assert names == [f"train-{number:05d}-of-00005.{ending}" for number in range(5)]
    one, many = (
        pd.read_parquet(path / "train") for path in (exported / "d_rand-parquet", tmp_path / "parquet")
    )
    assert np.array_equal(np.stack(one.pop("image").to_list()), np.stack(many.pop("image").to_list()))
    pd.testing.assert_frame_equal(one, many)
    lists = [torch.load(tmp_path / "torch" / name) for name in ("CIFAR_ims", "CIFAR_lab")]
    assert [len(part) for part in lists[0]] == [300, 300, 300, 300, 58]
    assert torch.equal(torch.cat(lists[0]).flatten(), torch.from_numpy(stored(made[0], d_rand)[0]).flatten())
    assert len(pd.read_csv(tmp_path / "folder" / "train" / "metadata.csv")) == 1258
    assert len(list((tmp_path / "folder").rglob("*.png"))) == 1258


def test_on_s3_too_and_nothing_is_left_of_one_that_failed(
    made: tuple[Store, Plan],
    d_rand: str,
    exported: Path,
    s3: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(split, "_BYTES_PER_PIECE", 700 * 4 * 64)
    there = Store(f"s3://{BUCKET}/{tmp_path.name}")
    for to in ("parquet", "folder"):
        export(made[0], d_rand, to, f"{there.uri}/{to}")
        with pytest.raises(InputError, match="is not empty"):
            export(made[0], d_rand, to, f"{there.uri}/{to}")
    assert {name.rpartition("/")[2] for name in there.fs.glob(f"{there.root}/parquet.*")} == {
        "parquet.README.md",
        "parquet.card.json",
    }
    rows = pd.read_parquet(f"{there.uri}/parquet")
    pd.testing.assert_frame_equal(rows, pd.read_parquet(exported / "d_rand-parquet" / "train"))
    assert len(there.fs.glob(f"{there.root}/folder/train/*/*.png")) == 1258
    assert b"file_name" in there.fs.cat_file(f"{there.root}/folder/train/metadata.csv")

    def stop_at_the_second(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(made[0], d_rand, "parquet", f"{there.uri}/stopped", progress=stop_at_the_second)
    assert there.fs.glob(f"{there.root}/stopped*/**") == there.fs.glob(f"{there.root}/stopped.*") == []
    export(made[0], d_rand, "parquet", f"{there.uri}/stopped")


def test_a_folder_that_somebody_fills_meanwhile_stays_as_it_is(tmp_path: Path) -> None:
    place = Destination(str(tmp_path / "out"))

    def fill() -> None:
        with place.filled() as (folder, _):
            (folder / "ours").touch()
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs").touch()

    with pytest.raises(InputError, match=r"cannot be filled \(.*\); give a new folder"):
        fill()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "theirs"]


@pytest.mark.skipif(not Path("/dev/shm").is_mount(), reason="no file system is mounted there")
def test_a_mounted_file_system_is_no_place_for_a_folder() -> None:
    with pytest.raises(InputError, match=r"is where a file system is mounted|is not empty"):
        Destination("/dev/shm")


def test_nothing_appears_of_a_damaged_data_set(d_rand: str, made: tuple[Store, Plan], tmp_path: Path) -> None:
    copy = Store(str(tmp_path / "copy"))
    copy.fs.copy(made[0].root, copy.root, recursive=True)
    (payload,) = copy.fs.glob(f"{copy.root}/artifacts/{d_rand}/*.parquet")
    content = bytearray(Path(payload).read_bytes())
    content[len(content) // 2] ^= 1
    Path(payload).write_bytes(content)
    with pytest.raises(DamagedArtifactError):
        export(copy, d_rand, "parquet", str(tmp_path / "out"))
    assert {path.name for path in tmp_path.iterdir()} == {"copy"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("d_rand", "out", "--to", "zip"), "--to: 'zip' is not a format; choose from parquet, hf, torch"),
        (("d_rand", "out", "--to", "hf", "--precision", "float16"), "--precision: 'float16' is nothing that"),
        (("d_rand", "out", "--to", "torch", "--precision", "int8"), "--precision: 'int8' is unknown"),
        (("d_rand", ".", "--to", "torch"), "destination: '.' is not empty"),
        (
            ("d_rand", "old", "--to", "parquet"),
            "destination: 'old' has the card of another export next to it, old.card.json",
        ),
        (("d_rand", "s3://advfeat", "--to", "parquet"), "destination: 's3://advfeat' is a whole bucket"),
        (("d_rand", "nonsense://x", "--to", "torch"), "destination: 'nonsense://x' is not a usable URI"),
        (("d_rand", "full/of", "--to", "torch"), "destination: 'full/of' cannot be written"),
        (("d_rand", "s3://advfeat/x", "--to", "torch"), "destination: 's3://advfeat/x' cannot be read"),
        (("source", "out", "--to", "torch"), "is a source_model, not a data set"),
        (("0000", "out", "--to", "torch"), "digest: '0000' names no artifact"),
    ],
)
def test_one_clear_line_for_what_cannot_be(
    arguments: tuple[str, ...],
    message: str,
    made: tuple[Store, Plan],
    d_rand: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("full").write_text("a file, no folder")
    Path("old.card.json").write_text("{}")
    named = {"d_rand": d_rand[:12], "source": made[1].stages[1].digest[:12]}
    digest, *others = arguments
    words = ["export", named.get(digest, digest), *others, "--store", made[0].uri]
    monkeypatch.setattr("sys.argv", ["advfeat", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert printed.err.startswith("advfeat: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert "; " in printed.err, "a remedy follows"
    assert not Path("out").exists()


PIXELS = arrays.arrays(np.float32, (3, 1, 2, 2), elements=st.floats(0, 1, width=32))


@given(PIXELS)
def test_quantization_moves_no_pixel_by_more_than_half_a_level(images: NDArray[np.float32]) -> None:
    assert quantized(images, "float32") is images
    levels = quantized(images, "uint8")
    assert levels.dtype == np.uint8
    assert np.abs(levels / 255 - images.astype(float)).max() <= 0.5 / 255 + 1e-7
    assert np.array_equal(quantized(quantized(levels, "float32"), "uint8"), levels)
    assert np.array_equal(quantized(quantized(levels, "float16"), "uint8"), levels)
    assert np.abs(quantized(images, "float16") - images).max() <= 2**-12


@given(st.lists(st.integers(0, 7), max_size=6), st.integers(1, 9))
def test_regrouped_rows_stay_in_order(sizes: list[int], rows: int) -> None:
    starts = np.cumsum([0, *sizes])
    tables = [
        pa.table({"row": pa.array(range(start, start + size), pa.int64())})
        for start, size in zip(starts, sizes, strict=False)
    ]
    parts = list(regrouped(tables, rows))
    assert [row for part in parts for row in part.column("row").to_pylist()] == list(range(sum(sizes)))
    assert all(part.num_rows == rows for part in parts[:-1])
    assert all(bool(sum(sizes)) <= part.num_rows <= rows for part in parts[-1:])


@settings(max_examples=30)
@given(st.lists(st.text(max_size=4), min_size=1, max_size=12))
def test_folders_of_classes_sort_as_labels_do(classes: list[str]) -> None:
    names = folder_names(classes)
    assert names == sorted(set(names))
    assert len({name.casefold() for name in names}) == len(names)
    assert all(name == Path(name).name and name not in {".", ".."} for name in names)
