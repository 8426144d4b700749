"""Arrays as people have them: any usual name, any range that tells what is white; all else is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from advfeat import data
from advfeat.data.found import found
from advfeat.data.imported import describe
from advfeat.datasets.origins import data_fields
from advfeat.errors import InputError
from advfeat.spec import DataSpec

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 6, 5, 3), dtype=np.uint8)
IMAGES[0, 0, 0], IMAGES[29, 0, 0] = (0, 128, 255), (0, 1, 254)
LABELS = np.arange(30) % 3
SHOWN = IMAGES.transpose(0, 3, 1, 2)
Arrays = dict[str, NDArray[np.generic]]

NAMES = (
    *(("x_{}", "y_{}"), ("X_{}", "y_{}"), ("{}_x", "{}_y"), ("{}_images", "{}_labels")),
    *(("images_{}", "labels_{}"), ("X{}", "y{}"), ("{}X", "{}Y"), ("{}x", "{}y"), ("{}_data", "{}_target")),
    *(
        ("{}images", "{}labels"),
        ("{}-images", "{}-labels"),
        ("{}Images", "{}Labels"),
        ("{}_img", "{}_targets"),
    ),
)
TRAINING, TESTING = ("train", "Train", "training", "TRAIN"), ("test", "Test", "testing", "val", "valid")


def spec(folder: Path, arrays: Arrays, **fields: object) -> DataSpec:
    np.savez(folder / "set.npz", **arrays)  # type: ignore[arg-type]
    return DataSpec.model_validate({"source": f"numpy:{folder}/set.npz", **fields})


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.sampled_from(TRAINING), st.sampled_from(TESTING), st.booleans())
def test_arrays_go_by_all_usual_names(
    tmp_path_factory: pytest.TempPathFactory, names: tuple[str, str], train: str, test: str, column: bool
) -> None:
    image, label = names
    labels = LABELS[:, None] if column else LABELS  # MedMNIST's are (N, 1)
    arrays = {
        name.format(split): array[rows]
        for split, rows in ((train, slice(0, 18)), (test, slice(18, 30)))
        for name, array in ((image, IMAGES), (label, labels))
    }
    folder = tmp_path_factory.mktemp("arrays")
    found = data.load(spec(folder, {**arrays, "notes": np.zeros(3)}))
    assert np.array_equal(found.train.images, SHOWN[:18])
    assert np.array_equal(found.test.images, SHOWN[18:])
    assert np.array_equal(found.test.labels, LABELS[18:])
    assert describe(f"numpy:{folder}/set.npz").size == 18


def test_medmnist_is_tested_on_its_test_split(tmp_path: Path) -> None:
    parts = {"train": slice(0, 15), "val": slice(15, 21), "test": slice(21, 30)}
    arrays: Arrays = {f"{name}_images": IMAGES[rows] for name, rows in parts.items()}
    labels: Arrays = {f"{name}_labels": LABELS[rows, None] for name, rows in parts.items()}
    found = data.load(spec(tmp_path, {**arrays, **labels}))
    assert np.array_equal(found.test.images, SHOWN[21:])
    unlabelled = spec(tmp_path, {**arrays, **labels, "test_labels": np.full((9, 1), -1)})
    assert np.array_equal(data.load(unlabelled).test.images, SHOWN[15:21])
    assert data.told(unlabelled) == ("has no labelled test split: validation takes its place",)


@pytest.mark.parametrize(
    ("arrays", "fields", "train"),
    [
        ({"data": IMAGES, "target": LABELS}, {}, None),
        ({"X": IMAGES, "y": LABELS}, {}, None),
        ({"p": IMAGES, "q": LABELS, "images": IMAGES[:3]}, {"image_column": "p", "label_column": "q"}, None),
        ({"images": IMAGES, "fine": LABELS, "coarse": LABELS // 2}, {"label_column": "fine"}, None),
        (
            {"p_train": IMAGES[:18], "q_train": LABELS[:18], "p_test": IMAGES[18:], "q_test": LABELS[18:]},
            {"image_column": "p", "label_column": "q"},
            18,
        ),
    ],
)
def test_one_split_and_other_names(
    arrays: Arrays, fields: dict[str, str], train: int | None, tmp_path: Path
) -> None:
    wanted = spec(tmp_path, arrays, **fields)
    found = data.load(wanted)
    assert data.sizes(wanted) == (len(found.train), len(found.test)) == ((train or 21), 30 - (train or 21))
    known = {image.tobytes(): label for image, label in zip(SHOWN, LABELS, strict=True)}
    for part in (found.train, found.test):
        assert [known[image.tobytes()] for image in part.images] == part.labels.tolist()
    assert fields.items() <= data.open_source(wanted).identity().items()


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(("u1", "u2", ">u2", "i2", "i4", "i8", "f2", "f4", ">f4", "f8")),
    white=st.sampled_from((1, 255, 65535)),
    channels_first=st.booleans(),
    split=st.booleans(),
)
def test_white_is_told_by_the_range(
    tmp_path_factory: pytest.TempPathFactory, kind: str, white: int, channels_first: bool, split: bool
) -> None:
    largest = int(np.finfo(kind).max if "f" in kind else np.iinfo(kind).max)
    if white > largest or (white == 1 and "f" not in kind):
        return
    images = (IMAGES.transpose(0, 3, 1, 2) if channels_first else IMAGES).astype(np.float64) / 255 * white
    stored = np.round(images).astype(kind) if "f" not in kind else images.astype(kind)
    arrays: Arrays = {"images": stored, "labels": LABELS}
    if split:
        arrays = {
            "x_train": stored[:18],
            "y_train": LABELS[:18],
            "x_test": stored[18:],
            "y_test": LABELS[18:],
        }
    found = data.load(spec(tmp_path_factory.mktemp("arrays"), arrays))
    assert {image.tobytes() for part in (found.train, found.test) for image in part.images} == {
        image.tobytes() for image in SHOWN
    }


def test_black_and_white(tmp_path: Path) -> None:
    found = data.load(spec(tmp_path, {"images": IMAGES > 128, "labels": LABELS}))
    assert set(np.unique(found.train.images)) == {0, 255}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            {"images": IMAGES.astype(np.uint16) * 16},
            "type uint16 from 0 to 4080, so the value for white is unknown",
        ),
        ({"images": IMAGES / 16}, "from 0 to 15.94, so the value for white is unknown"),
        ({"images": IMAGES / 127.5 - 1}, "from -1 to 1, so the value for white is unknown"),
        ({"images": IMAGES / 255 / 255}, "so the value for white is unknown"),
        ({"images": (IMAGES > 128).astype(int)}, "from 0 to 1, so the value for white is unknown"),
        (
            {"images": (IMAGES > 128).astype(np.uint8)},
            "type uint8 from 0 to 1, so the value for white is unknown (use 0 and",
        ),
        ({"images": IMAGES[:, :0]}, "has images without pixels"),
        (
            {"images": IMAGES[:0], "x_train1": IMAGES, "y_train1": LABELS},
            "has 0 images in images and 30 labels",
        ),
        ({"images": np.where(IMAGES > 250, np.nan, IMAGES / 255)}, "NaN or infinite"),
        ({"images": IMAGES + 0j}, "has images of type complex128, no numbers"),
        ({"images": IMAGES.astype(object)}, "has images of type object, no numbers"),
        ({"labels": np.eye(3)[LABELS]}, "not one integer per image"),
        ({"labels": np.full(30, -1)}, "has no image with a label"),
        ({"labels": LABELS * 0}, "has images of only one class, 0"),
        ({"labels": np.array(["", "dog", "owl"])[LABELS]}, "has labels of empty text"),
        ({"labels": LABELS.astype(object)}, "has Python objects in labels, which only code reads"),
        (
            {"x_train": IMAGES / 255, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS},
            "float64 and of type uint8",
        ),
        (
            {"x_train": IMAGES, "y_train": LABELS % 2, "x_test": IMAGES, "y_test": LABELS},
            "no training image is of: 2",
        ),
    ],
)
def test_what_cannot_be_told_is_refused(changed: Arrays, problem: str, tmp_path: Path) -> None:
    wanted = spec(tmp_path, {"images": IMAGES, "labels": LABELS, **changed})
    with pytest.raises(InputError) as refused:
        data.open_source(wanted).identity()
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


def test_dark_images_and_other_arrays_are_told(tmp_path: Path) -> None:
    dark = spec(tmp_path, {"images": IMAGES // 16, "labels": LABELS, "x_train1": IMAGES, "more": LABELS})
    assert data.told(dark) == ("has images that are dark: no pixel is above 15, and 255 is white",)
    assert data.open_source(dark).identity().keys() == {"numpy", "test_fraction"}
    assert found(dark).left_out == {"other arrays": ["more", "x_train1"]}
    bright = spec(tmp_path, {"images": IMAGES, "labels": LABELS})
    assert data.told(bright) == ()


ONE_WHITE = np.array([255] + [1] * 29)[:, None, None, None]


@pytest.mark.parametrize(
    ("train", "test", "problem"),
    [
        (IMAGES / 255, IMAGES * 1.0, "for train with pixels up to 1, and others up to 255"),
        (IMAGES * 1.0, IMAGES / 255, "for test with pixels up to 1, and others up to 255"),
        (IMAGES, IMAGES // 255, "for test with pixels up to 1, and others up to 255"),
        (
            IMAGES.astype("u2") * 257,
            IMAGES.astype("u2"),
            "for test with pixels up to 255, and others up to 6",
        ),
        (IMAGES / 255 * ONE_WHITE, IMAGES * 1.0, "17 of 18 images with pixels up to 1, and others up to 255"),
    ],
)
def test_images_that_are_not_scaled_alike_are_refused(
    tmp_path: Path, train: NDArray[np.generic], test: NDArray[np.generic], problem: str
) -> None:
    wanted = spec(
        tmp_path, {"x_train": train[:18], "y_train": LABELS[:18], "x_test": test[18:], "y_test": LABELS[18:]}
    )
    with pytest.raises(InputError, match="which are not scaled alike") as refused:
        data.open_source(wanted).identity()
    assert problem in str(refused.value)


def test_a_split_and_images_that_are_dark_are_told(tmp_path: Path) -> None:
    split: Arrays = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES // 16, "y_test": LABELS}
    line = "has images for test that are dark: no pixel is above 15, and 255 is white"
    assert data.told(spec(tmp_path, split)) == (line,)
    some = np.where(np.arange(30)[:, None, None, None] < 4, IMAGES / 255, IMAGES)
    line = "has images that are nearly black (4): no pixel is above 1, and 255 is white"
    assert data.told(spec(tmp_path, {"images": some, "labels": LABELS})) == (line,)


def test_a_card_tells_the_kind_of_source_whatever_else_its_identity_says(tmp_path: Path) -> None:
    wanted = spec(tmp_path, {"X": IMAGES / 255, "kind": LABELS + 1}, label_column="kind")
    identity = dict(sorted(data.open_source(wanted).identity().items()))
    assert identity.keys() == {"arrays", "classes", "label_column", "numpy", "test_fraction", "white"}
    fields = data_fields({"identity": identity, "train_size": None, "test_size": 5})
    assert fields.items() >= {"source": "numpy:PATH", "label_column": "kind", "test_size": 5}.items()


def test_finished_sets_that_would_be_nearly_black_are_refused(tmp_path: Path) -> None:
    for images in ((IMAGES > 128).astype(np.uint8), IMAGES / 255 / 255):
        spec(tmp_path, {"images": images, "labels": LABELS})
        with pytest.raises(InputError, match="nearly black"):
            describe(f"numpy:{tmp_path}/set.npz")


def test_arrays_of_two_names_that_tell_different_splits_are_read_if_both_are_named(tmp_path: Path) -> None:
    arrays: Arrays = {"train_pixels": IMAGES, "kinds": LABELS}
    with pytest.raises(InputError, match="lacks arrays of the usual names"):
        data.sizes(spec(tmp_path, arrays))
    assert data.sizes(spec(tmp_path, arrays, image_column="train_pixels", label_column="kinds")) == (21, 9)


def test_labels_that_begin_at_one_and_labels_that_are_names(tmp_path: Path) -> None:
    wanted = spec(tmp_path, {"images": IMAGES, "labels": LABELS + 1})
    assert data.load(wanted).classes == ("1", "2", "3")
    assert data.open_source(wanted).identity()["classes"] == ["1", "2", "3"]
    names = np.array(["cat", "dog", "owl"])[LABELS]
    assert data.load(spec(tmp_path, {"images": IMAGES, "labels": names})).classes == ("cat", "dog", "owl")


def test_a_share_that_takes_all_of_a_class_is_refused(tmp_path: Path) -> None:
    wanted = spec(tmp_path, {"images": IMAGES[:11], "labels": np.arange(11) // 10}, test_fraction=0.7)
    with pytest.raises(InputError, match=r"^data\.test_fraction: 0\.7 leaves no training image of class"):
        data.sizes(wanted)
