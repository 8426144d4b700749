"""Sources: any picture folder and Parquet file becomes the same images; splits never move."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from advfeat import data
from advfeat.data.split import held_out_sizes
from advfeat.errors import InputError
from advfeat.spec import DataSpec
from tests.servers import BUCKET, s3_client

CLASSES = ("cat", "dog", "owl")
PICTURES = np.random.default_rng(0).integers(0, 256, (30, 12, 10, 3), dtype=np.uint8)
LABELS = np.arange(30) % 3


def png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_folder(root: Path, rows: range) -> None:
    for row in rows:
        folder = root / CLASSES[LABELS[row]]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row:03}.png").write_bytes(png(PICTURES[row]))


def write_parquet(path: Path, rows: range, *, labels: list[int] | None = None, names: bool = True) -> None:
    pictures = [{"bytes": png(PICTURES[row]), "path": None} for row in rows]
    table = pa.table(
        {"img": pictures, "label": pa.array(labels or LABELS[rows.start : rows.stop].tolist(), pa.int64())}
    )
    if names:
        features = {"info": {"features": {"label": {"names": list(CLASSES)}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def spec(source: str, **fields: object) -> DataSpec:
    return DataSpec.model_validate({"source": source, **fields})


def by_content(images: data.ImageData) -> dict[bytes, int]:
    """Map each image's bytes to its label."""
    return {
        image.tobytes(): int(label)
        for split in (images.train, images.test)
        for image, label in zip(split.images, split.labels, strict=True)
    }


EXPECTED = {
    picture.transpose(2, 0, 1).tobytes(): int(label) for picture, label in zip(PICTURES, LABELS, strict=True)
}


def test_a_folder_and_a_parquet_file_hold_the_same_images(tmp_path: Path) -> None:
    write_folder(tmp_path / "folder", range(30))
    write_parquet(tmp_path / "all.parquet", range(30))
    for source in (f"folder:{tmp_path}/folder", f"parquet:{tmp_path}/all.parquet"):
        images = data.load(spec(source))
        assert images.train.images.shape[1:] == (3, 12, 10)
        assert images.classes == CLASSES
        assert by_content(images) == EXPECTED
        assert (len(images.train), len(images.test)) == data.sizes(spec(source)) == (21, 9)
        assert len(images.classes) == data.class_count(spec(source))
        assert np.bincount(images.test.labels).tolist() == [3, 3, 3], "each class gives its share"


def test_given_splits_are_kept(tmp_path: Path) -> None:
    write_folder(tmp_path / "folder" / "train", range(18))
    write_folder(tmp_path / "folder" / "test", range(18, 30))
    write_parquet(tmp_path / "parquet" / "train-0.parquet", range(9))
    write_parquet(tmp_path / "parquet" / "train-1.parquet", range(9, 18))
    write_parquet(tmp_path / "parquet" / "test.parquet", range(18, 30))
    hub = tmp_path / "train-and-test" / "hub"
    write_parquet(hub / "partial-train" / "0000.parquet", range(9))
    write_parquet(hub / "partial-train" / "0001.parquet", range(9, 18))
    write_parquet(hub / "test" / "0000.parquet", range(18, 30))
    write_parquet(hub / "validation" / "0000.parquet", range(18, 30))
    for source in (f"folder:{tmp_path}/folder", f"parquet:{tmp_path}/parquet", f"parquet:{hub}"):
        images = data.load(spec(source))
        assert (len(images.train), len(images.test)) == data.sizes(spec(source)) == (18, 12)
        test_rows = {PICTURES[row].transpose(2, 0, 1).tobytes() for row in range(18, 30)}
        assert {image.tobytes() for image in images.test.images} == test_rows


def test_parquet_on_s3(tmp_path: Path, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "one" / "all.parquet", range(30))
    write_parquet(tmp_path / "set" / "data" / "train-00000-of-00002.parquet", range(9))
    write_parquet(tmp_path / "set" / "data" / "train-00001-of-00002.parquet", range(9, 18))
    write_parquet(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", range(18, 30))
    s3_client(s3).put(str(tmp_path), f"{BUCKET}/pictures", recursive=True)
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    there = f"parquet:s3://{BUCKET}/pictures"
    assert by_content(data.load(spec(f"{there}/one/all.parquet"))) == EXPECTED
    given = data.load(spec(f"{there}/set"))
    assert (len(given.train), len(given.test)) == data.sizes(spec(f"{there}/set")) == (18, 12)
    here = data.load(spec(f"parquet:{tmp_path}/set"))
    assert np.array_equal(given.train.images, here.train.images)
    identity = data.open_source(spec(f"{there}/set")).identity()
    assert identity == data.open_source(spec(f"parquet:{tmp_path}/set")).identity()
    with pytest.raises(InputError, match="does not exist"):
        data.sizes(spec(f"{there}/nowhere"))


def test_rows_that_are_not_drawn_are_not_decoded(tmp_path: Path) -> None:
    write_parquet(tmp_path / "all.parquet", range(30))
    drawn = spec(f"parquet:{tmp_path}/all.parquet", train_size=5, test_size=3)
    used = data.splits(drawn)
    images = data.load(drawn)
    kept = {*used.train.rows.tolist(), *used.test.rows.tolist()}
    table = pq.read_table(tmp_path / "all.parquet")
    pictures = [
        picture if row in kept or row == 0 else {"bytes": b"no picture", "path": None}
        for row, picture in enumerate(table.column("img").to_pylist())
    ]
    pq.write_table(table.set_column(0, "img", pa.array(pictures)), tmp_path / "all.parquet")
    again = data.load(drawn)
    assert np.array_equal(images.train.images, again.train.images)
    with pytest.raises(InputError, match="is not a readable picture"):
        data.load(spec(f"parquet:{tmp_path}/all.parquet"))


def test_identity_follows_the_bytes_not_the_place(tmp_path: Path) -> None:
    write_folder(tmp_path / "one", range(30))
    write_folder(tmp_path / "two", range(30))

    def identity(name: str) -> dict[str, object]:
        return data.open_source(spec(f"folder:{tmp_path}/{name}")).identity()

    assert identity("one") == identity("two")
    (tmp_path / "two" / "cat" / "000.png").write_bytes(png(PICTURES[1]))
    assert identity("one") != identity("two")


def test_pictures_of_several_sizes_need_one_size(tmp_path: Path) -> None:
    write_folder(tmp_path, range(30))
    (tmp_path / "owl" / "odd.png").write_bytes(png(PICTURES[0][:7]))
    with pytest.raises(InputError, match=r"odd\.png.*image_size"):
        data.load(spec(f"folder:{tmp_path}"))
    assert data.load(spec(f"folder:{tmp_path}", image_size=8)).train.images.shape[1:] == (3, 8, 8)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, range(30))
    (tmp_path / "owl" / "broken.png").write_bytes(png(PICTURES[0])[:40])
    with pytest.raises(InputError, match=r"broken\.png"):
        data.load(spec(f"folder:{tmp_path}"))


@pytest.mark.parametrize(
    ("labels", "names", "problem"),
    [([0, 1, 3], True, "label 3 outside the classes 0 to 2"), ([0, -2, 1], False, "label -2 outside")],
)
def test_labels_outside_the_classes(tmp_path: Path, labels: list[int], names: bool, problem: str) -> None:
    write_parquet(tmp_path / "all.parquet", range(3), labels=labels, names=names)
    with pytest.raises(InputError, match=problem):
        data.open_source(spec(f"parquet:{tmp_path}/all.parquet")).identity()


def test_a_truncated_parquet_file(tmp_path: Path) -> None:
    write_parquet(tmp_path / "all.parquet", range(30))
    whole = (tmp_path / "all.parquet").read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "all.parquet").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"^data\.source: .*cannot be read"):
            data.open_source(spec(f"parquet:{tmp_path}/all.parquet")).identity()


def test_subsets_are_drawn_once_and_stay() -> None:
    whole, part = data.load(spec("digits")), data.load(spec("digits", train_size=100, test_size=50))
    again = data.load(spec("digits", train_size=100, test_size=50))
    assert (len(part.train), len(part.test)) == (100, 50)
    assert np.array_equal(part.train.images, again.train.images)
    assert by_content(part).items() <= by_content(whole).items()
    assert np.bincount(part.train.labels, minlength=10).min() > 0


def test_more_images_than_there_are() -> None:
    with pytest.raises(InputError, match=r"train_size: 1259 is more than the 1258 images of digits"):
        data.sizes(spec("digits", train_size=1259))


def test_patches_make_up_the_photographs() -> None:
    from sklearn.datasets import load_sample_image

    whole = data.load(spec("photo-patches"))
    assert len(whole.train) + len(whole.test) == sum(data.sizes(spec("photo-patches"))) == 2 * 53 * 80
    assert whole.classes == ("china", "flower")
    red, green, blue = load_sample_image("china.jpg")[:8, :8].astype(float).transpose(2, 0, 1)
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    everything = np.concatenate([whole.train.images, whole.test.images]).reshape(-1, 8, 8)
    assert np.abs(everything - grey).max(axis=(1, 2)).min() <= 1, "the first patch is one of them"


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    theirs = load_digits()
    ours = data.load(spec("digits"))
    assert len(ours.train) + len(ours.test) == len(theirs.target) == 1797
    expected = np.round(theirs.images * (255 / 16)).astype(np.uint8)
    assert {image.tobytes() for image in ours.test.images} <= {image.tobytes() for image in expected}


@pytest.mark.parametrize("name", ["cifar10", "mnist", "fashion-mnist"])
def test_a_folder_without_the_set_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"^data\.root: .*does not hold torchvision's"):
        data.open_source(spec(name, root=str(tmp_path))).identity()


def test_other_files_under_the_sets_names_are_refused(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(b"no images")
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(b"no labels")
    with pytest.raises(InputError, match=r"^data\.root: .*holds another"):
        data.load(spec("mnist", root=str(tmp_path)))
    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    (batches / "batches.meta").write_bytes(b"no pickle of anybody's is opened")
    with pytest.raises(InputError, match=r"^data\.root: .*another"):
        data.load(spec("cifar10", root=str(tmp_path)))


@given(st.lists(st.integers(0, 4), min_size=20, max_size=60), st.floats(0.2, 0.8))
def test_a_held_out_split_loses_no_image(labels: list[int], fraction: float) -> None:
    train, test = held_out_sizes(np.array(labels), fraction)
    assert train + test == len(labels)
    assert abs(test - fraction * len(labels)) <= 0.5 * len(set(labels))
