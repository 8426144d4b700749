"""Restricted ImageNet from an ImageNet folder: the classes are right, and little of it is ever in memory."""

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from advfeat import data
from advfeat.data.decode import Pictures
from advfeat.errors import InputError
from advfeat.planning.layout import ImagesOnce
from advfeat.spec import DataSpec
from advfeat.stages.images import read_split, write_images
from advfeat.storage import Store

# ImageNet's number of a class and what it shows.
KNOWN = {
    *((151, "dog"), (268, "dog"), (281, "cat"), (285, "cat"), (30, "frog"), (32, "frog"), (33, "turtle")),
    *((37, "turtle"), (80, "bird"), (100, "bird"), (365, "primate"), (382, "primate"), (389, "fish")),
    *((397, "fish"), (118, "crab"), (121, "crab"), (300, "insect"), (319, "insect")),
}
USED = 203
"""How many of the thousand belong to one of the nine."""


def jpeg(shade: int) -> bytes:
    """Encode a grey or a coloured picture, of whose shade the class can be read."""
    file = io.BytesIO()
    Image.new("L" if shade % 2 else "RGB", (12, 8), shade if shade % 2 else (shade,) * 3).save(file, "JPEG")
    return file.getvalue()


def imagenet(root: Path, pictures: int) -> DataSpec:
    """Make an ImageNet folder whose pictures have the shade of a quarter of their class number."""
    contents = [jpeg(shade) for shade in range(250)]
    for split, count in (("train", pictures), ("val", 1)):
        for number in range(1000):
            folder = root / split / f"n{1_440_764 + 37 * number:08}"
            folder.mkdir(parents=True)
            for picture in range(count if number < 400 else 0):
                (folder / f"{picture}.JPEG").write_bytes(contents[number // 4])
    return DataSpec(source=f"restricted-imagenet:{root}", image_size=32)


def stored(spec: DataSpec, store: Store) -> str:
    stage = ImagesOnce()[spec].stage
    return write_images(stage, store).digest


def test_nine_classes_by_their_ranges(tmp_path: Path, local_store: Store) -> None:
    spec = imagenet(tmp_path, 1)
    assert data.sizes(spec) == (USED, USED)
    digest = stored(spec, local_store)
    metrics = local_store.manifest(digest).metrics
    classes = metrics["classes"]
    assert classes == ["dog", "cat", "frog", "turtle", "bird", "primate", "fish", "crab", "insect"]
    assert metrics["image_shape"] == [3, 32, 32]
    train = read_split(local_store, digest, "train")
    shades = {
        (round(float(image.mean())), classes[label])
        for image, label in zip(train.images, train.labels, strict=True)
    }
    assert shades >= {(number // 4, name) for number, name in KNOWN}
    counts = np.bincount(train.labels).tolist()
    assert counts == [118, 5, 3, 5, 21, 18, 9, 4, 20]


def test_pictures_that_are_not_drawn_are_not_opened(tmp_path: Path) -> None:
    spec = imagenet(tmp_path, 2).model_copy(update={"train_size": 50, "test_size": 40})
    drawn, identity = data.load(spec), data.open_source(spec).identity()
    assert (len(drawn.train), len(drawn.test)) == (50, 40)
    whole, used = data.open_source(spec).splits(), data.splits(spec)
    for split, part in ((whole.train, used.train), (whole.test, used.test)):
        assert isinstance(split.of, Pictures)
        for path, _ in split.of.read(np.setdiff1d(split.rows, part.rows)):
            Path(path).write_bytes(b"no picture")
    assert data.open_source(spec).identity() == identity
    again = data.load(spec)
    assert np.array_equal(again.train.images, drawn.train.images)
    with pytest.raises(InputError, match="is not a readable picture"):
        data.load(spec.model_copy(update={"train_size": None}))


def test_little_of_it_is_ever_in_memory(
    tmp_path: Path, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("advfeat.files.parts.GROUP_BYTES", 20 * (3 * 96 * 96 + 8))
    stage = ImagesOnce()[imagenet(tmp_path, 2).model_copy(update={"image_size": 96})].stage
    tracemalloc.start()
    digest = write_images(stage, local_store).digest
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    everything = 3 * USED * 3 * 96 * 96
    assert peak < everything / 3
    (file,) = Path(local_store.artifact_uri(digest)).glob("train-*.parquet")
    groups = pq.ParquetFile(file).metadata
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == 20 * [20] + [6]


def test_other_folders_are_refused(tmp_path: Path) -> None:
    def refused() -> str:
        with pytest.raises(InputError) as error:
            data.open_source(DataSpec(source=f"restricted-imagenet:{tmp_path}")).identity()
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "has no folder train/" in refused()
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    assert "has 0 folders named like n01440764 in train/" in refused()
    for number in range(1000):
        (tmp_path / "train" / f"n{number:08}").mkdir()
    assert "has no picture of class dog in train/" in refused()


def test_pictures_are_224_pixels_a_side_unless_told_otherwise(tmp_path: Path) -> None:
    assert data.image_shape(DataSpec(source=f"restricted-imagenet:{tmp_path}")) == (3, 224, 224)
