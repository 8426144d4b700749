"""The formats of exports, by the names that users give them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from advfeat.export.class_folders import write_class_folders
from advfeat.export.hugging_face import write_hugging_face
from advfeat.export.parquet import write_parquet
from advfeat.export.split import Split
from advfeat.export.tar_shards import write_webdataset
from advfeat.export.torch_files import write_torch


@dataclass(frozen=True)
class Format:
    """How an export is written, and how it is read again."""

    write: Callable[[Split, Path], Iterator[None]]
    """Writes a split into a folder; at each stop the files in it are complete, and may be taken away."""
    loading: str
    """Python that reads the training split where the card lies; ``{train!r}`` is that split's folder."""
    files: str | None = None
    """The files of each split, as the card tells ``datasets``; None where it cannot read them."""
    card_beside: bool = False
    """Whether the card lies beside the folder: Polars refuses one that holds anything but Parquet."""
    as_png: bool = False
    """Whether all pixels are uint8, and images grey or of three colours."""
    for_the_hub: bool = False
    """Whether a data set comes with the real test images as split ``test``, and its card tells features."""


FORMATS: Mapping[str, Format] = {
    "parquet": Format(
        write=write_parquet,
        files="*.parquet",
        card_beside=True,
        loading="import pandas\n\nrows = pandas.read_parquet({train!r})",
    ),
    "hf": Format(
        write=write_hugging_face,
        files="*.parquet",
        as_png=True,
        for_the_hub=True,
        loading='import datasets\n\nrows = datasets.load_dataset(".", split="train")',
    ),
    "torch": Format(
        write=write_torch,
        loading='import torch\n\nimages = torch.cat(torch.load("CIFAR_ims", weights_only=True))\n'
        'labels = torch.cat(torch.load("CIFAR_lab", weights_only=True))',
    ),
    "webdataset": Format(
        write=write_webdataset,
        files="*.tar",
        loading="import glob\n\nimport webdataset\n\n"
        'rows = webdataset.WebDataset(sorted(glob.glob("train/*.tar")), shardshuffle=False).decode()',
    ),
    "folder": Format(
        write=write_class_folders,
        files="**",
        as_png=True,
        loading="from torchvision.datasets import ImageFolder\n\n"
        'rows = ImageFolder("train", allow_empty=True)',
    ),
}
