"""Picture folders as people have them: splits of any usual name, wrappers, and what systems leave beside."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from advfeat import data
from advfeat.data.found import Found, found
from advfeat.data.split_names import role_of
from advfeat.errors import InputError
from advfeat.flows.command_line.found_lines import found_lines
from advfeat.planning.layout import ImagesOnce
from advfeat.spec import DataSpec


def png(shade: int = 0, size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), (shade % 256, shade // 256, 255)).save(file, "PNG")
    return file.getvalue()


def write(root: Path, *places: str, each: int = 4) -> DataSpec:
    """Write so many pictures into each of the folders named, one where a place has a suffix."""
    shade = 0
    for place in places:
        path = root / place
        folder = path.parent if path.suffix else path
        folder.mkdir(parents=True, exist_ok=True)
        for name in [path.name] if path.suffix else [f"{number}.png" for number in range(each)]:
            (folder / name).write_bytes(png(shade := shade + 1))
    return DataSpec(source=f"folder:{root}")


def under(split: str, *classes: str) -> list[str]:
    return [f"{split}/{name}" for name in classes or ("cat", "dog")]


def told(spec: DataSpec) -> str:
    return "\n".join(data.told(spec))


NAMES = {
    "train": ["train", "training", "trainset", "train_set", "training-images", "train2017", "Train Data"],
    "val": ["val", "valid", "validation", "dev", "val_set", "val2017", "images_val"],
    "test": ["test", "testing", "test_set", "test-images", "test2017", "imagesTest"],
}


def any_case(names: list[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda name, case: str(getattr(name, case)()),
        st.sampled_from(names),
        st.sampled_from(["lower", "upper", "title", "capitalize", "swapcase", "casefold"]),
    )


@given(st.sampled_from(sorted(NAMES)).flatmap(lambda role: st.tuples(st.just(role), any_case(NAMES[role]))))
def test_names_of_splits(named: tuple[str, str]) -> None:
    assert role_of(named[1]) == named[0]


@given(st.sampled_from(["cat", "trained", "latest", "contest", "value", "devil", "trains", "n01440764", "0"]))
def test_names_of_no_splits(name: str) -> None:
    assert role_of(name) is None


@given(train=any_case(NAMES["train"]), other=any_case(NAMES["test"] + NAMES["val"]), first=st.booleans())
def test_splits_of_any_name(
    tmp_path_factory: pytest.TempPathFactory, train: str, other: str, first: bool
) -> None:
    root = tmp_path_factory.mktemp("named")
    splits = [*under(train), *under(other, "cat", "dog")]
    places = splits if first else ["/".join(reversed(place.split("/"))) for place in splits]
    spec = write(root, *places, each=2)
    images = data.splits(spec)
    assert images.classes == ("cat", "dog")
    assert (len(images.train), len(images.test)) == (4, 4)
    assert ("takes its place" in told(spec)) == (role_of(other) == "val")


@pytest.mark.parametrize(
    ("places", "sizes", "line"),
    [
        (under("train") + under("val") + under("test"), (8, 8), "leaves out val/, as there is a test split"),
        ([*under("train"), *under("valid"), "test"], (8, 8), "valid/ takes its place"),
        ([*under("train"), *under("dev"), "test/unknown"], (8, 8), "leaves out test/"),
        ([*under("train"), "test"], (6, 2), "a share of it is held out"),
        (under("train"), (6, 2), "a share of it is held out"),
        (under("set/set/train") + under("set/set/test"), (8, 8), "everything in set/set/"),
        (under("training_set/training_set") + under("test_set/test_set"), (8, 8), "everything in test_set/"),
        (under("pictures/pictures"), (6, 2), "everything in pictures/pictures/"),
        ([*under("train"), *under("test"), "samples"], (8, 8), "leaves out samples/"),
        ([*under("."), "odd.png"], (6, 2), "lie in no class folder (1): odd.png"),
        (
            under("cat", "0", "1") + under("dog", "0", "1"),
            (12, 4),
            "classes cat, dog, which all hold the same folders: 0, 1",
        ),
        (under("train", "cat", "dog", "owl") + under("test"), (12, 8), "no picture to test of some classes"),
    ],
)
def test_what_a_person_means_is_taken_and_told(
    tmp_path: Path, places: list[str], sizes: tuple[int, int], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec = write(tmp_path, *places)
    assert data.sizes(spec) == sizes
    assert set(data.splits(spec).classes) <= {"cat", "dog", "owl"}
    assert line in told(spec)
    assert ImagesOnce()[spec].train_size == sizes[0]
    assert line in caplog.text, "whoever lays out a plan says it"


@pytest.mark.parametrize(
    ("places", "problem"),
    [
        (["train", "val"], "named as splits in the place of classes: train, val"),
        (["Training", "Testing", "Validation"], "named as splits"),
        (["images/train", "images/val"], "named as splits"),
        (["cat", "dog", "test"], "named as splits in the place of classes: test"),
        (under("test"), "no train/ with class folders"),
        (["seg_train", "seg_test"], "look like splits, not classes"),
        (["trainA", "trainB", "testA", "testB"], "look like splits, not classes"),
        (["cat"], "fewer than two class folders"),
        (["cat", "dog/a.heic"], "with pictures, but files of no picture's suffix (1): dog/a.heic"),
        ([f"fold{number}/{name}" for number in (1, 2, 3) for name in ("cat", "dog")], "like parts of a set"),
        (["set/Batch_1", "set/Batch_2"], "look like parts of a set, not classes: Batch_1, Batch_2"),
        ([f"train/fold-{number}/cat" for number in (1, 2)], "look like parts of a set"),
        (["train/cat", "test/cat"], "fewer than two class folders"),
        (under("train") + under("training"), "several folders for one split: train, training"),
        (
            under("train") + under("test", "cat", "cow"),
            "other classes in test/ than in the training split: cow",
        ),
        (["cat/train", "cat/test", "dog"], "folders of splits in some class folders"),
    ],
)
def test_what_can_mean_two_things_is_refused(tmp_path: Path, places: list[str], problem: str) -> None:
    with pytest.raises(InputError, match=r"^data\.source: ") as refused:
        data.sizes(write(tmp_path, *places))
    assert problem in str(refused.value)


def test_a_train_may_be_a_vehicle(tmp_path: Path) -> None:
    assert data.splits(write(tmp_path, "bus", "car", "train")).classes == ("bus", "car", "train")


LEFT = (
    ".DS_Store.png",
    "._0.png",
    ".ipynb_checkpoints/a.png",
    "__MACOSX/a.png",
    "__macosx/b/a.png",
    ".git/a.png",
)


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "train/", "train/cat/", "test/dog/deep/"]), st.sampled_from(LEFT))
    )
)
def test_what_the_system_left_is_left_out_at_every_level(
    tmp_path_factory: pytest.TempPathFactory, left: list[tuple[str, str]]
) -> None:
    clean, littered = (tmp_path_factory.mktemp(name) for name in ("clean", "littered"))
    places = [*under("train"), *under("test"), "test/dog/deep"]
    specs = [write(root, *places, each=2) for root in (clean, littered)]
    write(littered, *(place + name for place, name in left), "train/Thumbs.db")
    one, other = (data.open_source(spec) for spec in specs)
    assert one.identity() == other.identity()
    assert one.sizes() == other.sizes()
    told_of = found(specs[1]).left_out["left by the system"]
    assert len(told_of) == 1 + len(
        {(place + name).split("/a.png")[0].replace("/b", "") for place, name in left}
    )


def test_a_folder_below_a_hidden_one_is_read_if_it_is_named(tmp_path: Path) -> None:
    assert data.sizes(write(tmp_path / ".cache" / "pictures", *under("."))) == (6, 2)


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "cat", "dog")
    root = tmp_path / "pictures"
    root.mkdir()
    for name in ("cat", "dog"):
        (root / name).symlink_to(tmp_path / "elsewhere" / name)
    (tmp_path / "elsewhere" / "cat" / "again").symlink_to(tmp_path / "elsewhere" / "cat")
    (root / "cat" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    spec = DataSpec(source=f"folder:{root}")
    assert data.sizes(spec) == (6, 2)
    assert [str(path) for path in found(spec).left_out["no pictures"]] == ["cat/lost.png"]


def test_one_class_in_two_spellings_of_unicode(tmp_path: Path) -> None:
    spec = write(tmp_path, *under("train", "caf\u00e9", "tea"), *under("test", "cafe\u0301", "tea"))
    assert data.sizes(spec) == (8, 8)


def test_what_is_found_is_told(tmp_path: Path) -> None:
    spec = write(tmp_path, *under("train", "cat", "dog", "owl"), *under("test"), "train/cow/.keep.png")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "test" / "cat" / "0.png").write_bytes((tmp_path / "train" / "dog" / "1.png").read_bytes())
    lines = "\n".join(found_lines(found(spec), spec.source))
    for line in (
        "3 classes: cat, dog, owl",
        "train: 12 images: cat 4, dog 4, owl 4",
        "test: 8 images: cat 4, dog 4, owl 0",
        "test: no image of owl (1)",
        "pictures: RGB 8 x 8 (20)",
        "left out, left by the system (1): train/cow/.keep.png",
        "left out, no pictures (1): train/cat/notes.txt",
        "left out, folders without a picture (1): train/cow",
        "duplicates: 1 of 8 test images are also in train",
    ):
        assert line in lines


def test_only_what_is_drawn_is_counted_and_looked_at(tmp_path: Path) -> None:
    spec = write(tmp_path, *under("train"), *under("test")).model_copy(update={"train_size": 3})
    what = found(spec)
    assert (what.there["train"], what.used["train"], what.of_class["train"].sum()) == (8, 3, 3)
    assert "train: 3 of 8 images" in "\n".join(found_lines(what, spec.source))


def test_pictures_that_a_run_would_refuse_are_refused_when_they_are_looked_at(tmp_path: Path) -> None:
    spec = write(tmp_path, *under("."))
    (tmp_path / "cat" / "0.png").write_bytes(png(size=9))
    (tmp_path / "cat" / "1.png").write_bytes(png(size=9))
    with pytest.raises(InputError, match=r"image_size"):
        found(spec)
    assert "RGB 9 x 9 (2)" in "\n".join(
        found_lines(found(spec.model_copy(update={"image_size": 8})), spec.source)
    )
    (tmp_path / "dog" / "0.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"0\.png.*is not a readable picture"):
        found(spec.model_copy(update={"image_size": 8}))


def test_many_classes_are_told_by_the_fewest_and_the_most() -> None:
    counts = {"train": np.arange(1, 101), "test": np.full(100, 2)}
    sizes = {name: int(each.sum()) for name, each in counts.items()}
    what = Found(tuple(f"c{number}" for number in range(100)), sizes, sizes, counts, {"RGB 8 x 8": 5_250})
    lines = "\n".join(found_lines(what, "folder:many"))
    assert "100 classes: c0, c1, " in lines
    assert "of each class 1 to 100 (fewest c0 1, most c99 100)" in lines
    assert "not looked for" in lines


@pytest.mark.parametrize("source", ["digits", "photo-patches"])
def test_built_in_images_are_told(source: str) -> None:
    what = found(DataSpec(source=source))
    assert sum(what.of_class["train"]) + sum(what.of_class["test"]) == sum(what.used.values())
    assert what.duplicates is not None


def test_arrays_are_told(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 6, 3), dtype=np.uint8)
    np.savez(
        tmp_path / "a.npz", x_train=images[:8], y_train=np.arange(8) % 3, x_test=images[6:], y_test=[0] * 6
    )
    what = found(DataSpec(source=f"numpy:{tmp_path}/a.npz"))
    assert what.of_class["test"].tolist() == [6, 0, 0]
    assert what.duplicates == [("image 0", "image 6"), ("image 1", "image 7")]


@pytest.mark.parametrize(
    ("source", "first", "last"),
    [
        ("cifar10", "airplane", "truck"),
        ("mnist", "0 - zero", "9 - nine"),
        ("fashion-mnist", "T-shirt/top", "Ankle boot"),
    ],
)
def test_torchvisions_sets_are_told_without_a_download(source: str, first: str, last: str) -> None:
    what = found(DataSpec(source=source))
    assert (len(what.classes), what.classes[0], what.classes[-1]) == (10, first, last)
    assert what.there["test"] == 10_000
    assert not what.of_class


@pytest.mark.parametrize("most", [1, 40, 255])
def test_pictures_that_are_all_dark_are_told(tmp_path: Path, most: int) -> None:
    """As masks of 0 and 1 are, or what was divided twice."""
    for number in range(40):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        mask = np.zeros((8, 8), np.uint8)
        mask[number % 8] = most
        Image.fromarray(mask).save(path)
    problem = f"has images that are dark: no pixel is above {most}, and 255 is white"
    assert data.told(DataSpec(source=f"folder:{tmp_path}")) == ((problem,) if most < 255 else ())


def test_pictures_are_grey_only_if_all_training_pictures_are(tmp_path: Path) -> None:
    spec = write(tmp_path, *under("train"), *under("test"))
    as_before = data.open_source(spec).identity()
    assert as_before.keys() == {"folder", "image_size", "reading"}
    Image.new("L", (8, 8), 9).save(tmp_path / "train" / "cat" / "0.png")
    seen = data.load(spec).train.images
    assert seen.shape == (8, 3, 8, 8)
    assert (seen[0] == 9).all()
    assert np.array_equal(seen[7, :, 0, 0], (8, 0, 255))
    assert data.open_source(spec).identity()["channels"] == 3
    for path in (tmp_path / "train").rglob("*.png"):
        Image.new("L", (8, 8), 200).save(path)
    assert data.load(spec).test.images.shape == (8, 1, 8, 8)
    assert "channels" not in data.open_source(spec).identity()


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "it is empty"), (b"<html>404</html>", "of no form that is read: it begins with b'<html>404</h'")],
)
def test_a_file_that_is_no_picture_is_refused_by_what_it_is(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    spec = write(tmp_path, *under("."))
    (tmp_path / "dog" / "1.png").write_bytes(content)
    with pytest.raises(InputError, match=r"dog/1\.png' is not a readable picture") as refused:
        found(spec)
    assert problem in str(refused.value)
