"""NumPy arrays in any usual layout become the same images; what is no such array is refused in a line."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from advfeat import data
from advfeat.data.images import LabelledImages, Split
from advfeat.errors import InputError
from advfeat.spec import DataSpec
from tests.servers import BUCKET, s3_client

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 12, 10, 3), dtype=np.uint8)
LABELS = np.arange(30) % 3
Arrays = dict[str, NDArray[np.generic]]


def npz(path: Path, arrays: Arrays) -> str:
    np.savez_compressed(path / "all.npz", **arrays)  # type: ignore[arg-type]
    return f"numpy:{path}/all.npz"


def folder(path: Path, arrays: Arrays) -> str:
    for name, array in arrays.items():
        np.save(path / name, array)
    return f"numpy:{path}"


def keras(images: NDArray[np.uint8]) -> Arrays:
    """Name arrays as Keras does; its CIFAR-10 has labels (N, 1) of uint8."""
    labels = LABELS.astype(np.uint8)[:, None]
    return {
        "x_train": images[:18],
        "y_train": labels[:18],
        "x_test": images[18:],
        "y_test": labels[18:],
    }


def spec(source: str, **fields: object) -> DataSpec:
    return DataSpec.model_validate({"source": source, **fields})


@pytest.mark.parametrize("write", [npz, folder])
@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2)])
def test_given_splits_are_kept_whatever_the_order_of_axes(
    tmp_path: Path, write: Callable[[Path, Arrays], str], axes: tuple[int, ...]
) -> None:
    wanted = spec(write(tmp_path, keras(IMAGES.transpose(axes))))
    assert (data.sizes(wanted), data.image_shape(wanted), data.class_count(wanted)) == (
        (18, 12),
        (3, 12, 10),
        3,
    )
    loaded = data.load(wanted)
    assert np.array_equal(loaded.train.images, IMAGES[:18].transpose(0, 3, 1, 2))
    assert np.array_equal(loaded.test.labels, LABELS[18:])
    assert loaded.test.images.dtype == np.uint8
    assert loaded.classes == ("0", "1", "2")


@pytest.mark.parametrize("write", [npz, folder])
def test_grey_images_without_a_test_split(tmp_path: Path, write: Callable[[Path, Arrays], str]) -> None:
    wanted = spec(write(tmp_path, {"images": IMAGES[..., 0], "labels": LABELS}), train_size=10)
    assert data.image_shape(wanted) == (1, 12, 10)
    loaded = data.load(wanted)
    assert data.sizes(wanted) == (len(loaded.train), len(loaded.test)) == (10, 9)
    known = {image.tobytes(): label for image, label in zip(IMAGES[..., 0], LABELS, strict=True)}
    for split in (loaded.train, loaded.test):
        assert [known[image.tobytes()] for image in split.images] == split.labels.tolist()


def test_arrays_on_s3(tmp_path: Path, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for write in (npz, folder):
        write(tmp_path, keras(IMAGES))
    s3_client(s3).put(str(tmp_path), f"{BUCKET}/arrays", recursive=True)
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    for place in ("arrays", "arrays/all.npz"):
        loaded = data.load(spec(f"numpy:s3://{BUCKET}/{place}"))
        assert np.array_equal(loaded.train.images, IMAGES[:18].transpose(0, 3, 1, 2))


def test_identity_follows_the_bytes_of_the_arrays_that_are_used(tmp_path: Path) -> None:
    def identity(name: str, arrays: Arrays) -> dict[str, object]:
        (tmp_path / name).mkdir()
        return data.open_source(spec(folder(tmp_path / name, arrays))).identity()

    first = identity("one", keras(IMAGES))
    assert identity("two", {**keras(IMAGES), "notes": np.zeros(3)}) == first
    assert identity("three", keras(IMAGES[::-1])) != first


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            {"images": IMAGES / 255 - 0.5},
            "pixels of type float64 from -0.5 to 0.5, so the value for white is unknown",
        ),
        ({"images": IMAGES[:29]}, "has 29 images in images and 30 labels in labels"),
        ({"images": IMAGES[:, :3, :3]}, "has images of shape (30, 3, 3, 3)"),
        ({"images": IMAGES[..., :2]}, "has images of shape (30, 12, 10, 2)"),
        ({"labels": LABELS - 2}, "has label -2 outside the classes"),
        ({"labels": LABELS.astype(float)}, "has labels of type float64"),
        ({"labels": np.eye(30)}, "has labels of type float64 and shape (30, 30)"),
        ({"labels": LABELS.astype(object)}, "has Python objects"),
        ({"labels": np.array(1)}, "has labels of type int64 and shape ()"),
        ({"labels": LABELS * 10**9}, "outside the classes"),
    ],
)
@pytest.mark.parametrize("write", [npz, folder])
def test_what_are_no_images_and_labels(
    tmp_path: Path, write: Callable[[Path, Arrays], str], changed: Arrays, problem: str
) -> None:
    source = write(tmp_path, {"images": IMAGES, "labels": LABELS, **changed})
    with pytest.raises(InputError) as refused:
        data.open_source(spec(source)).identity()
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


def test_arrays_by_other_names_and_sizes_of_pictures(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it has P, Q"):
        data.sizes(spec(npz(tmp_path, {"P": IMAGES, "Q": LABELS})))
    with pytest.raises(InputError, match=r"^data\.image_size: 8 is for pictures"):
        data.image_shape(spec(folder(tmp_path, keras(IMAGES)), image_size=8))
    with pytest.raises(InputError, match="does not exist"):
        data.sizes(spec(f"numpy:{tmp_path}/nowhere.npz"))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    file = io.BytesIO()
    np.savez(file, images=IMAGES, labels=LABELS)
    content = bytearray(file.getvalue())
    content = content[: draw.draw(st.integers(0, len(content) - 1))]
    path = tmp_path_factory.mktemp("damaged") / "all.npz"
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"^data\.source: .*(can(not)? be read|is not a readable)"):
        data.open_source(spec(f"numpy:{path}")).identity()


@settings(deadline=None)
@given(
    count=st.integers(1, 40),
    size=st.integers(1, 50),
    chosen=st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_pieces_are_the_rows_in_their_order(count: int, size: int, chosen: list[bool]) -> None:
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    rows = np.flatnonzero(chosen[:count])
    found = list(Split(LabelledImages(images, np.arange(count)), rows).pieces(size))
    assert [int(label) for piece in found for label in piece.labels] == rows.tolist()
    assert [int(image) for piece in found for image in piece.images.ravel()] == rows.tolist()
    assert all(len(piece) == size for piece in found[:-1])
