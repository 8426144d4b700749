"""One export: rows from the store, a piece at a time, into the files of a format, then the card."""

from collections.abc import Callable, Iterable, Iterator
from typing import get_args

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from advfeat.datasets.card import Card, Exported, card_of
from advfeat.datasets.stored_rows import stored_tables
from advfeat.errors import InputError
from advfeat.export.destination import Destination
from advfeat.export.formats import FORMATS, Format
from advfeat.export.hugging_face import dataset_info
from advfeat.export.pixels import Pixels, Precision, quantized, unquantized
from advfeat.export.real_test import RealTest, real_test_of, with_columns_of
from advfeat.export.split import Piece, Split, rows_per_piece
from advfeat.files.tables import image_array, int_array, regrouped
from advfeat.models import Normalized, predict
from advfeat.progress import Progress
from advfeat.report.card import card_markdown
from advfeat.stages.model import read_model
from advfeat.storage import Store

_CARD = ("card.json", "README.md")
_STORED: dict[str, Precision] = {"dataset": "float32", "images": "uint8"}


def export(
    store: Store,
    digest: str,
    to: str,
    destination: str,
    precision: str | None = None,
    progress: Progress | None = None,
) -> Card:
    """Write a data set, or real images with their test split, in one of ``FORMATS``; return its card.

    Pixels keep the precision that they are stored in, uint8 in pictures, unless one is named. Memory holds a
    piece of the rows. The card (``card.json``, ``README.md``) comes last, in Parquet beside the folder:
    ``DESTINATION.card.json`` and ``DESTINATION.README.md``. In the Hugging Face layout a data set comes with
    the real test images.
    Raises ``InputError`` before anything is written, ``MissingArtifactError`` or ``DamagedArtifactError``.
    """
    if to not in FORMATS:
        raise InputError("--to", to, "is not a format", f"choose from {', '.join(FORMATS)}")
    form = FORMATS[to]
    card = card_of(store, digest)
    chosen = _precision(card, to, form, precision)
    place = Destination(destination, beside=_CARD if form.card_beside else ())
    rounding = _Rounding(_attacked_model(store, card))
    test = real_test_of(store, card) if form.for_the_hub else None
    told = _counted(progress, sum(card.splits.values()) + (test.rows if test else 0))
    columns = _columns(store, digest) if form.for_the_hub else None

    def pieces(tables: Iterable[pa.Table], stored: Precision) -> Iterator[Piece]:
        return map(told, rounding.pieces(regrouped(tables, rows_per_piece(card.image_shape)), stored, chosen))

    splits = [
        (name, rows, pieces(stored_tables(store, digest, name), _STORED[card.stage]))
        for name, rows in card.splits.items()
    ]
    if test is not None and columns is not None:
        real = with_columns_of(columns, pieces(test.tables(store), _STORED["images"]))
        splits.append(("test", test.rows, real))
    with place.filled() as (folder, hand_over):
        for name, rows, written in splits:
            for _ in form.write(Split(name, rows, card.classes, card.image_shape, chosen, written), folder):
                hand_over()
        card = _exported(card, to, chosen, rounding, test)
        front_matter = dataset_info(columns, card.classes) if columns is not None else None
        loading = form.loading.format(train=f"{place.name}/train")
        described, page = (folder / name for name in _CARD)
        described.write_text(card.model_dump_json(indent=2), encoding="utf-8")
        hand_over()
        page.write_text(card_markdown(card, form.files, loading, front_matter), encoding="utf-8")
        hand_over()
    return card


def _columns(store: Store, digest: str) -> pa.Schema:
    """Return the columns of a training split beside ``image``."""
    return next(stored_tables(store, digest, rows=range(1))).drop_columns("image").schema


def _exported(
    card: Card, to: str, precision: Precision, rounding: "_Rounding", test: RealTest | None
) -> Card:
    """Return the card of the copy that was written."""
    exported = Exported(
        format=to,
        precision=precision,
        attack_success=rounding.attack_success(card.attack_success),
        largest_pixel_change=rounding.largest_change,
        real_test=test and test.digest,
    )
    if test is None:
        return card.model_copy(update={"exported": exported})
    splits = {**card.splits, "test": test.rows}
    balance = {**card.class_balance, "test": test.class_balance}
    return card.model_copy(update={"exported": exported, "splits": splits, "class_balance": balance})


class _Rounding:
    """Rounds pixels, and measures what that does to them and to the attack."""

    def __init__(self, model: Normalized | None) -> None:
        self._model = model
        self._hits: list[NDArray[np.bool_]] = []
        self.largest_change = 0.0
        """Of a pixel in [0, 1]."""

    def pieces(self, tables: Iterable[pa.Table], stored: Precision, wanted: Precision) -> Iterator[Piece]:
        """Turn tables of stored rows into pieces of an export."""
        first_row = 0
        for number, table in enumerate(tables):
            images: Pixels = (
                image_array(table, np.uint8) if stored == "uint8" else image_array(table, np.float32)
            )
            rounded = quantized(images, wanted)
            if wanted != stored:
                self._measure(unquantized(images), unquantized(rounded), int_array(table, "label"))
            yield Piece(number, first_row, rounded, table.drop_columns("image"))
            first_row += table.num_rows

    def attack_success(self, before: float | None) -> float | None:
        """Return the share of rounded images that fool the model; ``before`` where none was rounded."""
        return float(np.mean(np.concatenate(self._hits))) if self._hits else before

    def _measure(
        self, before: NDArray[np.float32], after: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> None:
        self.largest_change = max(self.largest_change, float(np.abs(after - before).max()))
        if self._model is not None:
            self._hits.append(predict(self._model, torch.from_numpy(after)) == labels)


def _attacked_model(store: Store, card: Card) -> Normalized | None:
    """Return the network that a data set's images were made to fool, if they were."""
    if "attack" not in card.parameters or card.attack_success is None:
        return None
    (digest,) = [model.digest for model in card.models if model.role == "source_model"]
    return read_model(store, digest)


def _precision(card: Card, to: str, form: Format, wanted: str | None) -> Precision:
    """Return the precision of an export's pixels; raises ``InputError`` if it cannot have it."""
    if not all(card.splits.values()):
        raise InputError("digest", card.digest[:12], "holds no images", "choose another data set")
    if form.as_png and card.image_shape[0] not in (1, 3):
        problem = f"holds images of 1 or 3 channels, these have {card.image_shape[0]}"
        raise InputError("--to", to, problem, "choose parquet, torch or webdataset")
    choices: tuple[Precision, ...] = ("uint8",) if form.as_png else get_args(Precision)
    if wanted is None:
        return "uint8" if form.as_png else _STORED[card.stage]
    for choice in choices:
        if choice == wanted:
            return choice
    problem = "is nothing that pictures (PNG) hold" if wanted in get_args(Precision) else "is unknown"
    raise InputError("--precision", wanted, problem, f"choose from {', '.join(choices)}")


def _counted(progress: Progress | None, total: int) -> Callable[[Piece], Piece]:
    """Return a function that tells how many rows went through it."""
    done = 0

    def told(piece: Piece) -> Piece:
        nonlocal done
        done += piece.columns.num_rows
        if progress is not None:
            progress(done, total)
        return piece

    return told
