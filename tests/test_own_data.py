"""Images of a function of the user's own: read a few at a time, known by content, refused in a line."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advfeat import data
from advfeat.data.read_once import read_once
from advfeat.datasets.card import card_of
from advfeat.errors import InputError
from advfeat.extensions import functions
from advfeat.planning import Plan, build_plan, load_experiment
from advfeat.spec import DataSpec
from advfeat.storage import Store
from advfeat.storage.runs import keep_plan
from advfeat.upkeep.repair import repair
from tests.inline import compute, compute_all

FILE = """
import numpy as np
import torch
from PIL import Image

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 6, 3), np.uint8)
LABELS = np.arange(40) % 4

def single():
    for image, label in zip(IMAGES, LABELS):
        yield image, label

def channels_first():
    return [(image.transpose(2, 0, 1), int(label)) for image, label in zip(IMAGES, LABELS)]

def whole():
    yield IMAGES, LABELS

def batches():
    for start in range(0, 40, 7):
        yield IMAGES[start:start + 7], LABELS[start:start + 7].tolist()

def floats():
    yield IMAGES / 255, LABELS

def tensors():
    images = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2) / np.float32(255))
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, torch.from_numpy(LABELS)), 9)

class Set:
    def __len__(self):
        return 40

    def __getitem__(self, number):
        return Image.fromarray(IMAGES[number]), LABELS[number]

def pictures():
    yield [Image.fromarray(image) for image in IMAGES], LABELS

def one_buffer():
    buffer = np.empty_like(IMAGES[0])
    for image, label in zip(IMAGES, LABELS):
        buffer[:] = image
        yield buffer, label

def grey():
    yield IMAGES[..., 0], LABELS

def black_and_white():
    yield IMAGES[..., 0] > 127, LABELS

def named():
    for image, label in zip(IMAGES, LABELS):
        yield image, ("owl", "cat", "dog", "ant")[label]

def splits(split):
    rows = slice(30) if split == "train" else slice(30, 40)
    yield IMAGES[rows], LABELS[rows]

def without_test(split):
    if split == "train":
        yield IMAGES, LABELS

def gaps():
    yield IMAGES, LABELS * 2 + 1

def unlabelled():
    yield IMAGES, np.where(np.arange(40) < 4, -1, LABELS)

def of_files(split, root):
    with np.load(f"{root}/{split}.npz") as arrays:
        yield from zip(arrays["images"], arrays["labels"])

def sizes():
    yield Image.new("RGB", (9, 8)), 0
    for number in range(20):
        yield Image.new("RGB", (8, 8), (12 * number, 100, 0)), number % 2

def nothing():
    yield from ()

def forgotten():
    IMAGES, LABELS

def word():
    yield "image"

def triple():
    yield IMAGES[0], 1, "more"

def flat():
    yield IMAGES[0].ravel(), 1

def many_channels():
    yield np.zeros((8, 8, 4)), 1

def too_few_labels():
    yield IMAGES, LABELS[:-1]

def one_label():
    yield IMAGES, 1

def real_label():
    yield IMAGES[0], 1.0

def label_of_none():
    yield IMAGES[0], None

def negative():
    yield IMAGES, LABELS - 2

def empty_name():
    yield IMAGES[0], ""

def mixed_names():
    yield IMAGES[0], "cat"
    yield IMAGES[1], 1

def one_class():
    yield IMAGES, LABELS * 0

def beyond():
    yield IMAGES / 100, LABELS

def below():
    yield IMAGES / 127.5 - 1, LABELS

def not_a_number():
    yield np.where(IMAGES == 7, np.nan, IMAGES / 255), LABELS

def mixed_types():
    yield IMAGES[:20], LABELS[:20]
    yield IMAGES[20:] / 255, LABELS[20:]

def ragged():
    yield [[1, 2], [3]], 1

def sparse():
    yield torch.eye(4).to_sparse(), 1

def objects():
    yield np.array([["a", "b"]]), 1

def smaller_test(split):
    yield IMAGES if split == "train" else IMAGES[:, 1:], LABELS

def other_test(split):
    yield IMAGES, LABELS + (split == "test")

def leaves():
    yield IMAGES[0], 0
    raise SystemExit


def broken():
    yield IMAGES[0], 0
    yield IMAGES[100], 1

class Refusing:
    def __iter__(self):
        raise KeyError("no such set")

def needs(path):
    yield from ()

def drawn():
    yield np.random.default_rng().integers(0, 256, IMAGES.shape, np.uint8), LABELS

def drawn_later():
    yield IMAGES, LABELS
    for _ in range(3):
        yield np.random.default_rng().integers(0, 256, (1024, 8, 6, 3), np.uint8), np.arange(1024) % 4

calls = []

def shorter():
    calls.append(1)
    yield from zip(IMAGES, LABELS if len(calls) < 3 else LABELS[:-1])
"""
NAMESPACE: dict[str, object] = {}
exec(FILE, NAMESPACE)
IMAGES = NAMESPACE["IMAGES"]
assert isinstance(IMAGES, np.ndarray)
EXPECTED = IMAGES.transpose(0, 3, 1, 2)
SMALL = (
    *("recipes=[clean]", "seeds=[0]", "shards=1"),
    *("target.model=mlp", "target.width=4", "target.epochs=1"),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("own") / "mine.py"
    file.write_text(FILE)
    return file


def spec(source: str, **fields: object) -> DataSpec:
    return DataSpec.model_validate({"source": source, **fields})


def everything(wanted: DataSpec) -> np.ndarray:
    """Return all images in the order of their first values; splits are drawn from them."""
    images = data.load(wanted)
    return ordered(np.concatenate([images.train.images, images.test.images]))


def ordered(images: np.ndarray) -> np.ndarray:
    return images[np.lexsort(images.reshape(len(images), -1).T)]


def planned(*assignments: str) -> Plan:
    return build_plan(load_experiment("digits", [*SMALL, *assignments]))


FORMS = ("single", "channels_first", "whole", "batches", "floats", "tensors", "Set", "pictures", "one_buffer")


@pytest.mark.parametrize("function", FORMS)
def test_images_arrive_as_they_are(function: str, path: Path) -> None:
    wanted = spec(f"{path}:{function}")
    assert np.array_equal(everything(wanted), ordered(EXPECTED))
    assert data.image_shape(wanted) == (3, 8, 6)
    assert data.sizes(wanted) == (28, 12)
    images = data.load(wanted)
    places = {image.tobytes(): number % 4 for number, image in enumerate(EXPECTED)}
    for split in (images.train, images.test):
        assert [places[image.tobytes()] for image in split.images] == split.labels.tolist()


def test_grey_levels_and_bits(path: Path) -> None:
    assert np.array_equal(everything(spec(f"{path}:grey")), ordered(EXPECTED[:, :1]))
    bits = everything(spec(f"{path}:black_and_white"))
    assert np.array_equal(bits, ordered(np.where(EXPECTED[:, :1] > 127, 255, 0)))


def test_names_are_classes_in_their_order(path: Path) -> None:
    wanted = spec(f"{path}:named")
    assert data.class_names(wanted) == ("ant", "cat", "dog", "owl")
    images = data.load(wanted)
    assert np.array_equal(images.train.labels, (np.array([3, 1, 2, 0])[data_rows(images)]))


def data_rows(images: data.ImageData) -> np.ndarray:
    places = {image.tobytes(): number % 4 for number, image in enumerate(EXPECTED)}
    return np.array([places[image.tobytes()] for image in images.train.images])


def test_splits_are_those_that_the_function_has(path: Path) -> None:
    images = data.load(spec(f"{path}:splits"))
    assert np.array_equal(images.train.images, EXPECTED[:30])
    assert np.array_equal(images.test.images, EXPECTED[30:])
    held_out = spec(f"{path}:without_test", test_fraction=0.5)
    assert data.sizes(held_out) == (20, 20)
    assert "has no labelled test split" in data.told(held_out)[0]
    drawn = spec(f"{path}:splits", train_size=12, test_size=8)
    assert [len(split) for split in (data.load(drawn).train, data.load(drawn).test)] == [12, 8]


def test_labels_follow_the_rules_of_all_sources(path: Path) -> None:
    assert data.class_names(spec(f"{path}:gaps")) == ("1", "3", "5", "7")
    unlabelled = spec(f"{path}:unlabelled")
    assert sum(data.sizes(unlabelled)) == 36
    assert "has 4 of 40 images without a label: left out" in data.told(unlabelled)


def test_pictures_are_brought_to_one_size(path: Path) -> None:
    assert data.image_shape(spec(f"{path}:sizes", image_size=4)) == (3, 4, 4)
    with pytest.raises(InputError, match=r"image_size: 4 is for pictures, these are arrays"):
        data.sizes(spec(f"{path}:single", image_size=4))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edges=st.lists(st.integers(0, 40), max_size=6), single=st.booleans())
def test_how_many_are_yielded_at_a_time_is_nothing_of_them(
    path: Path, tmp_path: Path, edges: list[int], single: bool
) -> None:
    cut = f"""
for first, last in zip({[0, *sorted(edges)]}, {[*sorted(edges), 40]}):
    rows = range(first, last)
    if {single} and first % 2:
        PAIRS += [(IMAGES[row], LABELS[row]) for row in rows]
    else:
        PAIRS.append((IMAGES[first:last], LABELS[first:last]))

def cut():
    yield from PAIRS
"""
    file = tmp_path / "cut.py"
    file.write_text(f"{FILE}\nPAIRS = []\n{cut}")
    identity = data.open_source(spec(f"{file}:cut")).identity()
    assert identity == data.open_source(spec(f"{path}:whole")).identity()


def test_the_identity_is_that_of_the_content(path: Path, tmp_path: Path) -> None:
    def identity(function: str, file: Path = path) -> dict[str, object]:
        return data.open_source(spec(f"{file}:{function}")).identity()

    elsewhere = tmp_path / "other.py"
    elsewhere.write_text(f"# another file\n{FILE}")
    assert identity("single") == identity("batches", elsewhere) == identity("pictures") == identity("Set")
    others = ("floats", "named", "gaps", "splits", "grey", "unlabelled")
    assert len({str(identity(function)) for function in (*others, "single")}) == len(others) + 1
    assert "other.py" not in str(identity("single", elsewhere))


REFUSED = [
    ("nothing", "holds no images"),
    ("forgotten", r"returns NoneType; yield pairs"),
    ("word", r"yields str, no pair \(mine.py, line \d+\); yield pairs"),
    ("triple", r"yields a tuple of 3, no pair \(mine.py, line \d+\)"),
    ("flat", r"yields an image of shape \(144,\) \(mine.py, line \d+\); yield images H x W"),
    ("many_channels", r"yields images of shape \(8, 8, 4\) \(mine.py"),
    ("too_few_labels", r"yields 40 images and 39 labels \(mine.py"),
    ("one_label", r"yields an image of shape \(40, 8, 6, 3\) \(mine.py"),
    ("real_label", r"yields labels of type float64 .*\(mine.py, line \d+\); yield whole numbers"),
    ("label_of_none", r"yields labels of type object"),
    ("negative", r"has label -2 outside the classes 0 to 1 \(mine.py"),
    ("empty_name", r"yields a label of empty text \(mine.py"),
    ("mixed_names", "yields names for some labels, and numbers for others"),
    ("one_class", "has images of only one class, 0"),
    ("beyond", "so the value for white is unknown"),
    ("below", "so the value for white is unknown"),
    ("not_a_number", "has pixels that are NaN or infinite"),
    ("mixed_types", "has images of type uint8 and of type float64"),
    ("ragged", r"yields images that are not arrays \(.*\(mine.py, line \d+\); yield images H x W"),
    ("sparse", r"yields images that are not arrays \("),
    ("objects", "yields images of type <U1, no numbers"),
    ("sizes", r"yields images of 3 x 8 x 8, the first is 3 x 8 x 9 .*data.image_size"),
    ("smaller_test", "yields images of 3 x 7 x 6 and 3 x 8 x 6 for train and test"),
    ("other_test", "has classes in test that no training image is of: 4"),
    ("leaves", r"fails: SystemExit \(mine.py, line \d+\); correct it"),
    ("broken", r"fails: IndexError: .* \(mine.py, line \d+\); correct it"),
    ("Refusing", r"fails: KeyError: 'no such set' \(mine.py, line \d+\); correct it"),
    ("needs", r"fails: TypeError: .*'path'"),
    ("drawn", "yields other images at each call; seed what is random"),
    ("IMAGES", "has no function IMAGES; there are single"),
    ("nowhere", "has no function nowhere"),
]


@pytest.mark.parametrize(("function", "told"), REFUSED)
def test_what_cannot_be_used_is_refused_by_the_plan(function: str, told: str, path: Path) -> None:
    with pytest.raises(InputError, match=rf"^data\.source: .*mine\.py:{function}.*{told}") as refused:
        planned(f"data.source={path}:{function}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("assignments", "told"),
    [
        (["data.source=absent.py:images"], r"data\.source: 'absent.py:images' cannot be read"),
        (["data.source=nowhere.at.all:images"], r"data\.source: .*No module named 'nowhere'"),
        (
            ["data.source=foldr:pictures"],
            r"data\.source: 'foldr:pictures' is unknown; did you mean folder:PATH",
        ),
        (["data.source=mine.py"], r"data\.source: 'mine.py' is unknown; .*FILE.py:FUNCTION"),
        (
            ["data.source={path}:of_files"],
            r"data\.root: None is unset, and mine.py:of_files@\w+ takes a root",
        ),
        (
            ["data.source={path}:single", "data.root=here"],
            r"data\.root: 'here' is given, and .* takes no root",
        ),
        (["data.source={path}:single@0123456789abcdef"], r"data\.source: .* has other content now"),
        (["data.source={path}:single", "data.label_column=y"], r"data\.label_column: 'y' names a column"),
        (
            ["data.source={path}:single", "data.train_size=99"],
            r"data\.train_size: 99 is more than the 28 images",
        ),
    ],
)
def test_what_is_asked_of_none_is_refused(assignments: list[str], told: str, path: Path) -> None:
    with pytest.raises(InputError, match=rf"^{told}"):
        planned(*(assignment.format(path=path) for assignment in assignments))


def write_files(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for split, count in (("train", 40), ("test", 20)):
        images = rng.integers(0, 256, (count, 8, 8), np.uint8)
        np.savez(folder / f"{split}.npz", images=images, labels=np.arange(count) % 4)


def test_files_that_it_reads_may_change_between_plans_and_not_after(
    path: Path, tmp_path: Path, local_store: Store
) -> None:
    asked = (f"data.source={path}:of_files", f"data.root={tmp_path}")
    write_files(tmp_path, 0)
    before = planned(*asked)
    write_files(tmp_path, 1)
    with pytest.raises(InputError, match=r"yields other images than when the run was planned; .* run again"):
        compute(before.stages[0], local_store)
    assert local_store.find(before.stages[0].digest) is None
    after = planned(*asked)
    assert after.stages[0].digest != before.stages[0].digest
    compute(after.stages[0], local_store)
    write_files(tmp_path, 0)
    assert planned(*asked).stages[0].digest == before.stages[0].digest


def test_who_loads_images_that_changed_is_told_once(path: Path, tmp_path: Path) -> None:
    wanted = spec(f"{path}:of_files", root=str(tmp_path))
    write_files(tmp_path, 0)
    before = data.load(wanted)
    write_files(tmp_path, 1)
    with pytest.raises(InputError, match="yields other images than when"):
        data.load(wanted)
    assert not np.array_equal(data.load(wanted).train.images, before.train.images)


@pytest.mark.parametrize("function", ["drawn_later", "shorter"])
def test_images_that_are_others_later_are_never_stored(function: str, path: Path, local_store: Store) -> None:
    stage = planned(f"data.source={path}:{function}").stages[0]
    with pytest.raises(InputError, match="yields other images than when the run was planned"):
        compute(stage, local_store)
    assert local_store.find(stage.digest) is None


def test_an_experiment_on_them(path: Path, tmp_path: Path, local_store: Store) -> None:
    source = f"data.source={path}:splits"
    plan = planned(source)
    compute_all(plan, local_store)
    images = plan.stages[0]
    assert images.title.startswith("images mine.py:splits@")
    assert str(path) not in images.model_dump_json()
    digest = plan.report.inputs["clean/0/dataset"]
    card = card_of(local_store, digest)
    assert "--set data.source=FILE.py:FUNCTION" in card.command
    assert card.images[0].source == "FILE.py:FUNCTION"
    assert "mine.py:splits@" in local_store.read(plan.report.digest, "report.html").decode()
    (tmp_path / "moved.py").write_text(path.read_text())
    moved = planned(f"data.source={tmp_path / 'moved.py'}:splits")
    assert [stage.digest for stage in moved.stages[:-1]] == [stage.digest for stage in plan.stages[:-1]]
    only_images = [stage.digest for stage in planned(source, "data.test_size=8").stages]
    assert only_images[0] != images.digest


def test_a_run_that_plans_twice_reads_once(tmp_path: Path) -> None:
    file = tmp_path / "counted.py"
    file.write_text(f"{FILE}\ncalls = []\n\ndef counted():\n    calls.append(1)\n    yield IMAGES, LABELS\n")
    asked = f"data.source={file}:counted"
    (first,) = (stage.code for stage in planned(asked).stages if stage.kind == "images")
    calls = functions.function_of(first[0].name).__globals__["calls"]
    assert len(calls) == 2, "once whole, and once for its beginning"
    planned(asked)
    assert len(calls) == 4, "as the files that it reads may be others by now"
    with read_once():
        assert planned(asked) == planned(asked)
    assert len(calls) == 6


def test_a_module_of_a_package_and_images_of_another_domain(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_images").mkdir()
    (tmp_path / "own_images" / "__init__.py").write_text("")
    (tmp_path / "own_images" / "drawn.py").write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path)
    plan = planned(
        "recipes=[cross_domain]",
        "seeds=[0]",
        f"data.source={path}:single",
        "other_data.source=own_images.drawn:splits",
    )
    titles = [stage.title for stage in plan.stages if stage.kind == "images"]
    assert [title.partition("@")[0] for title in titles] == [
        "images mine.py:single",
        "images own_images.drawn:splits",
    ]
    with pytest.raises(
        InputError, match=r"fails: IndexError: .*/own_images/drawn\.py, line \d+\); correct it"
    ):
        planned("data.source=own_images.drawn:broken")
    with pytest.raises(InputError, match=r"^other_data\.source: .* has no function none"):
        planned("recipes=[cross_domain]", f"other_data.source={path}:none")


def test_no_function_is_run_that_a_store_names(
    path: Path, tmp_path: Path, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = planned(f"data.source={path}:whole").stages[0]
    monkeypatch.setattr(functions, "_PROVIDED", {})
    (tmp_path / "evil.py").write_text("open('ran', 'w')\ndef images(): ...")
    monkeypatch.chdir(tmp_path)
    named = stage.model_copy(
        update={"code": (), "context": {"data": {**stage.context["data"], "source": "evil.py:images"}}}
    )
    with pytest.raises(InputError, match="is not available here"):
        compute(named, local_store)
    assert not (tmp_path / "ran").exists()


def test_a_function_is_not_called_by_a_repair(path: Path, local_store: Store) -> None:
    plan = planned(f"data.source={path}:whole")
    compute(plan.stages[0], local_store)
    keep_plan(local_store, "run", plan.stages)
    digest = plan.stages[0].digest
    for file in Path(local_store.artifact_uri(digest)).glob("train-*.parquet"):
        file.write_bytes(b"damaged")
    (mended,) = repair(local_store, [digest])
    assert mended.failure == "its images come from a function of the user's; run its experiment again"


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    def most(count: int) -> int:
        (tmp_path / "many.py").write_text(f"""
import numpy as np

def many(split):
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32] = 255
    for number in range({count} if split == "train" else 10):
        image[33] = number % 256
        yield image, number % 2
""")
        wanted = spec(f"{tmp_path}/many.py:many")
        data.class_names(wanted)
        tracemalloc.start()
        try:
            data.open_source(wanted).identity()
            assert sum(len(piece) for piece in data.splits(wanted).train.pieces(256)) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    further = 4500 * 64 * 64 * 3
    assert most(6000) < most(1500) + 0.1 * further
