"""Parquet as people have it: images and labels of any type come out as what they show, or are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from advfeat import data
from advfeat.data.found import found
from advfeat.data.imported import describe, pieces
from advfeat.errors import InputError
from advfeat.files.tables import with_image_shape
from advfeat.planning import build_plan, load_experiment
from advfeat.spec import DataSpec
from advfeat.stages.imported import imported_tables
from tests.test_data import png

ROWS = 12
IMAGES = np.random.default_rng(0).integers(0, 256, (ROWS, 7, 5, 3), dtype=np.uint8)
IMAGES[0, 0, 0] = (0, 128, 255)
LABELS = np.arange(ROWS) % 3
NAMES = ("cat", "dog", "owl")

BYTES = (pa.binary(), pa.large_binary(), pa.binary_view())
TEXTS = (pa.string(), pa.large_string(), pa.string_view(), *BYTES)
VALUES = (pa.uint8(), pa.int16(), pa.uint16(), pa.int64(), pa.float16(), pa.float32(), pa.float64())
Lists = Callable[[pa.DataType, int], pa.DataType]
LISTS: tuple[Lists, ...] = (
    lambda kind, _: pa.list_(kind),
    lambda kind, _: pa.large_list(kind),
    lambda kind, length: pa.list_(kind, length),
    lambda kind, _: pa.list_view(kind),
)


def pixels(draw: st.DataObject, images: NDArray[np.uint8]) -> pa.Array:
    """Store images as lists in lists, or as tensors, of numbers whose white is 1, 255 or 65535."""
    value = draw.draw(st.sampled_from(VALUES))
    if pa.types.is_floating(value):
        white = draw.draw(st.sampled_from((1, 255)))
        numbers = (images / 255 * white).astype(value.to_pandas_dtype())
    else:
        white = draw.draw(st.sampled_from((255, 65535))) if value in (pa.uint16(), pa.int64()) else 255
        numbers = images.astype(value.to_pandas_dtype()) * (white // 255)
    if value != pa.float16() and draw.draw(st.booleans()):
        return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(numbers))
    kind, of_one_size = value, True
    for length in reversed(numbers.shape[1:]):
        choice = draw.draw(st.sampled_from(LISTS if of_one_size else (*LISTS[:2], LISTS[3])))
        kind = choice(kind, length)
    return pa.array(numbers.tolist(), only_outer_fixed(kind))


def only_outer_fixed(kind: pa.DataType) -> pa.DataType:
    """Return the type with lists of a fixed size in such of any as ones of any size: those are refused."""
    of_any, found = False, []
    while pa.types.is_nested(kind):
        of_any = of_any or not pa.types.is_fixed_size_list(kind)
        found.append((pa.types.is_fixed_size_list(kind) and of_any, kind))
        kind = kind.value_type
    for refused, each in reversed(found):
        if refused or pa.types.is_list(each):
            kind = pa.list_(kind)
        elif pa.types.is_fixed_size_list(each):
            kind = pa.list_(kind, each.list_size)
        else:
            kind = pa.large_list(kind) if pa.types.is_large_list(each) else pa.list_view(kind)
    return kind


def pictures(draw: st.DataObject) -> pa.Array:
    """Store images as encoded pictures: bytes, records or a dictionary."""
    encoded = [png(image) for image in IMAGES]
    kind = draw.draw(st.sampled_from(BYTES))
    form = draw.draw(st.sampled_from(("plain", "record", "dictionary", "of one size")))
    if form == "record":
        kind = (
            pa.large_binary() if kind == pa.binary_view() else kind
        )  # pyarrow writes no such view in groups
        return pa.StructArray.from_arrays(
            [pa.array(encoded, kind), pa.array(["x"] * ROWS)], ["bytes", "path"]
        )
    if form == "dictionary":
        return pa.array(encoded).dictionary_encode()
    if form == "of one size":
        longest = max(map(len, encoded))
        return pa.array([each.ljust(longest, b"\0") for each in encoded], pa.binary(longest))
    return pa.array(encoded, kind)


def labels_of_any_type(draw: st.DataObject) -> tuple[pa.Array, tuple[str, ...]]:
    """Store labels as numbers or names; return the classes that come out too."""
    form = draw.draw(st.sampled_from(("number", "name", "dictionary")))
    if form == "number":
        kind = draw.draw(st.sampled_from((pa.int8(), pa.uint8(), pa.uint16(), pa.int64(), pa.float64())))
        step, first = draw.draw(st.integers(1, 9)), draw.draw(st.integers(0, 9))
        numbers = [first + step * int(label) for label in LABELS]
        return pa.array(numbers, pa.int64()).cast(kind), tuple(map(str, sorted(set(numbers))))
    names = [NAMES[label] for label in LABELS]
    if form == "dictionary":
        return pa.array(names).dictionary_encode(), NAMES
    kind = draw.draw(st.sampled_from(TEXTS))
    return pa.array([name.encode() if kind in BYTES else name for name in names], kind), NAMES


def spec(path: Path, **fields: Any) -> DataSpec:
    return DataSpec.model_validate({"source": f"parquet:{path}", **fields})


def labelled(found: data.ImageData) -> dict[bytes, str]:
    """Return the class of each image by its bytes."""
    return {
        image.tobytes(): found.classes[label]
        for part in (found.train, found.test)
        for image, label in zip(part.images, part.labels, strict=True)
    }


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_images_and_labels_of_any_type_are_what_they_show(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    first = draw.draw(st.booleans())
    laid_out = IMAGES.transpose(0, 3, 1, 2) if first else IMAGES
    column = draw.draw(st.sampled_from((pictures, lambda draw: pixels(draw, laid_out))))(draw)
    labels, classes = labels_of_any_type(draw)
    path = tmp_path_factory.mktemp("tables") / "set.parquet"
    names = draw.draw(st.sampled_from((("image", "label"), ("a.b", "Größe x"))))
    groups = draw.draw(st.integers(1, ROWS))
    table = pa.table([column, labels], names=list(names))
    pq.write_table(table, path, row_group_size=groups)
    named = {} if names[0] == "image" else {"image_column": names[0], "label_column": names[1]}
    found = data.load(spec(path, **named))
    assert found.classes == classes
    assert labelled(found) == {
        image.transpose(2, 0, 1).tobytes(): classes[label]
        for image, label in zip(IMAGES, LABELS, strict=True)
    }
    data.open_source(spec(path, **named)).identity()


def test_arrays_of_hugging_face_are_read(tmp_path: Path) -> None:
    features = datasets.Features(
        {"pixels": datasets.Array3D((7, 5, 3), "uint8"), "kind": datasets.ClassLabel(names=list(NAMES))}
    )
    rows = datasets.Dataset.from_dict({"pixels": list(IMAGES), "kind": LABELS.tolist()}, features=features)
    rows.to_parquet(tmp_path / "set.parquet")
    found = data.load(spec(tmp_path / "set.parquet"))
    assert found.classes == NAMES
    assert len(labelled(found)) == ROWS
    ((images, labels),) = pieces(f"parquet:{tmp_path}/set.parquet", 64)
    assert np.array_equal(np.round(images * 255), IMAGES.transpose(0, 3, 1, 2))
    assert np.array_equal(labels, LABELS)


def write(path: Path, rows: range, labels: Any, names: tuple[str, ...] = ()) -> None:
    table = pa.table({"img": [png(IMAGES[row]) for row in rows], "label": labels})
    if names:
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


SPLIT_FILES = (
    ("train-00000-of-00001", "validation-00000-of-00001", "test-00000-of-00001"),
    ("data/Train-0", "data/valid-0", "data/TEST-0"),
    ("training/0", "dev/0", "testing/0"),
    ("cifar_train", "cifar_val", "cifar_test"),
    ("cifarTrain", "cifarVal", "cifarTest"),
)
NO_TEST = "has no labelled test split"


@pytest.mark.parametrize("files", SPLIT_FILES)
@pytest.mark.parametrize("test", ["absent", "-1", "null", "labelled"])
def test_validation_stands_in_where_no_test_image_is_labelled(
    files: tuple[str, str, str], test: str, tmp_path: Path
) -> None:
    (train, validation, tested), rows = files, range(9, 12)
    write(tmp_path / f"{train}.parquet", range(6), LABELS[:6])
    write(tmp_path / f"{validation}.parquet", range(6, 9), LABELS[6:9])
    labels = {"-1": pa.array([-1] * 3), "null": pa.nulls(3), "labelled": pa.array(LABELS[9:])}
    if test in labels:
        write(tmp_path / f"{tested}.parquet", rows, labels[test])
    wanted = spec(tmp_path)
    found = data.load(wanted)
    used = rows if test == "labelled" else range(6, 9)
    assert data.sizes(wanted) == (6, 3)
    assert [image.tobytes() for image in found.test.images] == [
        IMAGES[row].transpose(2, 0, 1).tobytes() for row in used
    ]
    assert data.told(wanted) == (
        "leaves out validation, as there is a labelled test split"
        if test == "labelled"
        else f"{NO_TEST}: validation takes its place",
    )


def test_the_choice_is_told_when_a_run_is_planned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "train-0.parquet", range(9), LABELS[:9] + 1)
    write(tmp_path / "._train-0.parquet", range(9), LABELS[:9])
    write(tmp_path / "more.parquet", range(3), LABELS[:3])
    wanted = [f"data.source=parquet:{tmp_path}", "data.image_size=8", "recipes=[clean]", "seeds=[0]"]
    build_plan(load_experiment("digits", wanted))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3
    assert f"{NO_TEST}: a share of the training images is held out" in told[0]
    assert "has labels with gaps, which are renumbered from 0; the 3 classes keep their names" in told[1]
    assert told[2].endswith(": more.parquet")
    left_out = found(load_experiment("digits", wanted).data).left_out
    assert left_out["hidden, or named with an underscore"] == ["._train-0.parquet"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([None, -1, 0, 3, 4, 7]), min_size=ROWS, max_size=ROWS), st.booleans())
def test_no_class_is_empty_and_no_label_moves(
    tmp_path_factory: pytest.TempPathFactory, given_labels: list[int | None], named: bool
) -> None:
    names = tuple("abcdefghij") if named else ()
    path = tmp_path_factory.mktemp("labels") / "set.parquet"
    write(path, range(ROWS), pa.array(given_labels, pa.int64()), names)
    used = [label for label in given_labels if label not in (None, -1)]
    if len(set(used)) < 2 or max(used.count(label) for label in used) < 2:
        return  # one class alone, or nothing to hold out
    wanted = spec(path)
    found = data.load(wanted)
    expected = {
        IMAGES[row].transpose(2, 0, 1).tobytes(): names[label] if named else str(label)
        for row, label in enumerate(given_labels)
        if label is not None and label >= 0
    }
    assert labelled(found) == expected
    assert set(found.classes) == set(expected.values())
    assert sum(data.sizes(wanted)) == len(used)
    assert ("left out" in " ".join(data.told(wanted))) == (len(used) < ROWS)


def test_an_identity_says_that_labels_were_renumbered(tmp_path: Path) -> None:
    identities = []
    for name, labels in (("as before", LABELS), ("with gaps", LABELS + 1)):
        write(tmp_path / f"{name}.parquet", range(ROWS), labels)
        identities.append(data.open_source(spec(tmp_path / f"{name}.parquet")).identity()["parquet"])
    assert identities[0].keys() == {"image_size", "all", "test_fraction", "reading"}
    assert identities[1]["classes"] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("train", "test", "problem"),
    [
        (LABELS[:6] % 2, LABELS[6:], "has classes in test that no training image is of: 2"),
        (["cat"] * 3 + ["dog"] * 3, ["owl"] * 6, "has classes in test that no training image is of: owl"),
        (["cat"] * 3 + ["dog"] * 3, LABELS[6:], "has numbers for labels in test, names in train"),
        (LABELS[:6], ["cat"] * 6, "has names for labels in test, numbers in train"),
        (pa.nulls(6), LABELS[6:], "has no image with a label"),
        (LABELS[:6] / 2, LABELS[6:], "has labels that are not whole numbers"),
        ([1e30] * 6, LABELS[6:], "not whole numbers, or of more than 64 bits"),
        (pa.array([2**63] * 6, pa.uint64()), LABELS[6:], "not whole numbers, or of more than 64 bits"),
        (LABELS[:6] + 2_119_789, LABELS[6:], "has label 2119791 outside the classes 0 to 99999"),
        (LABELS[:6] // 2 * 2 - 1, LABELS[6:], "has images of only one class, 1"),
        (["", "cat"] * 3, ["cat"] * 6, "has labels of empty text"),
        (LABELS[:6] - 5, LABELS[6:], "has label -5 outside the classes"),
        ([b"\xff"] * 6, LABELS[6:], "has bytes for labels that are not text"),
    ],
)
def test_labels_that_do_not_go_together(train: Any, test: Any, problem: str, tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", range(6), train)
    write(tmp_path / "test.parquet", range(6, 12), test)
    with pytest.raises(InputError, match=problem) as refused:
        data.open_source(spec(tmp_path)).identity()
    assert "\n" not in str(refused.value)


def test_classes_are_matched_by_their_names_between_splits(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", range(6), LABELS[:6], NAMES)
    write(tmp_path / "test.parquet", range(6, 12), 2 - LABELS[6:], NAMES[::-1])
    assert np.array_equal(data.load(spec(tmp_path)).test.labels, LABELS[6:])


NESTED = pa.list_(pa.list_(pa.list_(pa.uint8())))
FLAT = IMAGES.reshape(ROWS, -1)


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        (pa.array(FLAT.tolist()), "has lists of 105 numbers for images, no encoded pictures and no shape"),
        (pa.array((IMAGES // 2).tolist()), "so the value for white is unknown"),
        (
            pa.array((IMAGES > 128).astype(int).tolist(), NESTED),
            "uint8 from 0 to 1, so the value for white is unknown",
        ),
        (pa.array(((IMAGES / 127.5) - 1).tolist()), "from -1 to 1, so the value for white is unknown"),
        (pa.array(np.where(IMAGES > 250, np.nan, IMAGES / 255).tolist()), "NaN or infinite"),
        (pa.array(IMAGES[:, :3, :3].tolist()), r"has images of shape \(12, 3, 3, 3\)"),
        (pa.array(["picture.png"] * ROWS), "has string for images in image, no encoded pictures"),
        (pa.array([IMAGES[0].tolist()] * 11 + [IMAGES[0, 1:].tolist()]), "have lists of 7 and of 6 values"),
        (pa.array([IMAGES[0].tolist()] * 11 + [None]), "are missing, or have gaps"),
        (pa.FixedShapeTensorArray.from_numpy_ndarray(IMAGES.transpose(0, 3, 1, 2)), "read in two ways"),
    ],
)
def test_images_that_cannot_be_told_are_refused(column: pa.Array, problem: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": column, "label": LABELS}), tmp_path / "set.parquet")
    with pytest.raises(InputError, match=problem) as refused:
        data.open_source(spec(tmp_path / "set.parquet")).identity()
    assert "\n" not in str(refused.value)


def test_pictures_in_tables_have_colours_if_one_has(tmp_path: Path) -> None:
    grey = [png(IMAGES[0, ..., 0]), *map(png, IMAGES[1:])]
    pq.write_table(pa.table({"image": grey, "label": LABELS}), tmp_path / "set.parquet")
    seen = labelled(data.load(spec(tmp_path / "set.parquet")))
    assert {image.transpose(2, 0, 1).tobytes() for image in IMAGES[1:]} < seen.keys()
    assert data.open_source(spec(tmp_path / "set.parquet")).identity()["parquet"]["channels"] == 3
    set_of_all = describe(f"parquet:{tmp_path}/set.parquet")
    assert set_of_all.image_shape == (3, 7, 5)
    assert set_of_all.identity["channels"] == 3


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (("data/train-00000-of-00002", "data/train-00001-of-00002-5aa1"), ""),
        (("train_1", "train_2"), ""),
        (("trainA", "trainB"), ""),
        (("train/label=0/train", "train/label=1/train"), ""),
        (("train/part-0-6ba7b810-9dad-11d1", "train/part-1-6ba7b811-9ddd"), ""),
        (("train-00000-of-00003", "train-00002-of-00003"), "lacks 1 of the 3 files train-…-of-00003"),
        (("train-00000-of-00001", "train-00000-of-00002"), "holds several sets with a train split"),
        (("train-00000-of-00001-5aa1", "train-00000-of-00001-77bc"), "holds several sets"),
        (("mnist/train-0", "fashion/train-0"), r"holds several sets with a train split \(fashion, mnist\)"),
        (("a/train/0000", "b/train/0000"), r"holds several sets with a train split \(a, b\)"),
        (
            ("cat-train", "dog-train"),
            "has one train split in files that are called differently: cat-train.parquet, dog-train.parquet",
        ),
    ],
)
def test_files_of_one_split_are_one_set(tmp_path: Path, files: tuple[str, ...], line: str) -> None:
    for number, name in enumerate(files):
        write(tmp_path / f"{name}.parquet", range(number, number + 6), LABELS[number : number + 6])
    if line.startswith("holds several sets"):
        with pytest.raises(InputError, match=rf"{line}.*: name the place of one"):
            data.sizes(spec(tmp_path))
    else:
        assert [told for told in data.told(spec(tmp_path)) if NO_TEST not in told] == ([line] if line else [])


@pytest.mark.parametrize(
    "content", [b"img,label\na.png,0\n", b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_what_is_no_parquet_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"\(it does not end as Parquet does"):
        data.sizes(spec(tmp_path))


def test_a_file_without_rows_is_read_as_such(tmp_path: Path) -> None:
    write(tmp_path / "train-1.parquet", range(ROWS), LABELS)
    rows = pq.read_table(tmp_path / "train-1.parquet")
    pq.write_table(rows.slice(0, 0), tmp_path / "train-0.parquet")
    with pytest.raises(InputError, match="holds no images"):
        data.sizes(spec(tmp_path / "train-0.parquet"))
    assert len(labelled(data.load(spec(tmp_path)))) == ROWS


def test_where_several_columns_have_usual_names_the_choice_is_told(tmp_path: Path) -> None:
    encoded = [png(image) for image in IMAGES]
    columns = {"image": encoded, "png": encoded[::-1], "class": LABELS, "label": LABELS, "id": LABELS}
    pq.write_table(pa.table(columns), tmp_path / "set.parquet")
    assert data.told(spec(tmp_path / "set.parquet")) == (
        "has its images in image; there are also png (data.image_column names one)",
        "has its labels in label; there are also class (data.label_column names one)",
    )
    assert data.told(spec(tmp_path / "set.parquet", image_column="png", label_column="id")) == ()


@pytest.mark.parametrize(("validation", "line"), [(True, "takes its place"), (False, "is held out")])
def test_a_test_split_without_a_column_of_labels_is_no_labelled_one(
    tmp_path: Path, validation: bool, line: str
) -> None:
    write(tmp_path / "train.parquet", range(6), LABELS[:6])
    if validation:
        write(tmp_path / "val.parquet", range(6, 9), LABELS[6:9])
    pq.write_table(pa.table({"img": [png(image) for image in IMAGES[9:]]}), tmp_path / "test.parquet")
    (told,) = data.told(spec(tmp_path, test_fraction=0.5))
    assert told.startswith(NO_TEST)
    assert line in told


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    write(tmp_path / "set.parquet", range(ROWS), LABELS)
    with pytest.raises(
        InputError, match=r"^data\.label_column: 'kind' is not a column .* there are img, label$"
    ):
        data.sizes(spec(tmp_path / "set.parquet", label_column="kind"))
    with pytest.raises(InputError, match=r"^data\.image_column: 'x' names a column, and digits has none"):
        load_experiment("digits", ["data.image_column=x"])
    assert "image_column" not in load_experiment("digits").described()["data"]


def test_labels_of_a_finished_set_are_the_classes_that_are_called_so(tmp_path: Path) -> None:
    write(tmp_path / "real.parquet", range(ROWS), LABELS, NAMES)
    write(tmp_path / "numbers.parquet", range(ROWS), 2 - LABELS, NAMES[::-1])
    write(tmp_path / "names.parquet", range(ROWS), [NAMES[label] for label in LABELS])
    write(tmp_path / "others.parquet", range(ROWS), ["cow", "cat"] * 6)
    write(tmp_path / "missing.parquet", range(ROWS), [None, *LABELS[1:]])
    for name in ("numbers", "names"):
        location = f"parquet:{tmp_path}/{name}.parquet"
        labels = pa.concat_tables(imported_tables(location, NAMES)).column("label")
        assert labels.to_pylist() == LABELS.tolist()
    assert describe(f"parquet:{tmp_path}/names.parquet").numbers_among(NAMES) is None
    for name, problem in (
        ("others", "has labels that are not classes of the data: cow"),
        ("missing", "1 rows"),
    ):
        given = [
            f"data.source=parquet:{tmp_path}/real.parquet",
            f"imported=parquet:{tmp_path}/{name}.parquet",
        ]
        with pytest.raises(InputError, match=problem):
            build_plan(load_experiment("digits", [*given, "recipes=[imported]"]))


def test_classes_that_a_finished_set_lacks_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.arange(1, 5))
    build_plan(load_experiment("digits", ["recipes=[imported]", f"imported=numpy:{tmp_path}/set.npz"]))
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.endswith("has no image of 0, 5, 6, 7, 8, 9")


@pytest.mark.parametrize("kind", [np.uint8, np.float16, np.float32])
def test_what_was_exported_says_what_is_white_however_dark_it_is(tmp_path: Path, kind: type) -> None:
    dark = np.array([0, 1], np.uint8)[LABELS % 2][:, None] * np.ones((1, 64), np.uint8)
    white = 1 if kind == np.uint8 else 255
    images = pa.array(list((dark / white).astype(kind)))
    table = with_image_shape(pa.table({"image": images, "label": LABELS}), (1, 8, 8))
    pq.write_table(table, tmp_path / "part.parquet")
    read = data.load(DataSpec(source=f"parquet:{tmp_path}", test_fraction=0.25))
    assert {int(image.max()) for image in read.train.images} == {0, 1}
    pq.write_table(table.replace_schema_metadata(), tmp_path / "part.parquet")
    with pytest.raises(InputError, match=r"tell what is white|no shape"):
        data.load(DataSpec(source=f"parquet:{tmp_path}", test_fraction=0.25))
