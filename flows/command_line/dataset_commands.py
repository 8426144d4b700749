"""Commands that hand out data sets: in the formats of other libraries, with their cards and origins."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from advfeat.flows.command_line.options import DEFAULT_STORE, AsJSON, Digest, StoreURI
from advfeat.flows.command_line.output import folded, print_model
from advfeat.flows.command_line.store_commands import readable_store

if TYPE_CHECKING:
    from advfeat.progress import Progress

_OF_TREES = " │├└─"
"""What stands before the words of a branch."""

_SPLITS = {"train": "training", "test": "test"}


def export(
    digest: Digest,
    destination: Annotated[
        str, typer.Argument(metavar="DEST", help="new folder, or empty fsspec URI such as s3://bucket/prefix")
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help="parquet, hf, torch, webdataset or folder")
    ],
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="PRECISION",
            help="uint8, float16 or float32; default: as stored, but uint8 in hf and folder",
        ),
    ] = None,
    store: StoreURI = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Export a data set or real images, with a card, in a format that other libraries read."""
    from advfeat.export import export as write
    from advfeat.report.numbers import percent

    place = readable_store(store)
    with _bar() as progress:
        card = write(place, place.resolve(digest), to, destination, precision, progress)
    if as_json:
        print_model(card)
        return
    assert card.exported is not None
    sizes = " and ".join(f"{rows:,} {_SPLITS[split]}" for split, rows in card.splits.items())
    print(f"{sizes} images as {to}, {card.exported.precision}: {destination}")
    if card.attack_success is not None:
        before, after = percent(card.attack_success), percent(card.exported.attack_success)
        print(f"attack success: {before} as stored, {after} as exported")


def card(digest: Digest, store: StoreURI = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """Print the card of a data set: content, origin, licence, and the command that makes it again."""
    from advfeat.datasets.card import card_of
    from advfeat.report.card import card_markdown

    place = readable_store(store)
    found = card_of(place, place.resolve(digest))
    if as_json:
        print_model(found)
    else:
        print(card_markdown(found))


def lineage(digest: Digest, store: StoreURI = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """Show the artifacts that one was made from, back to the real images."""
    from advfeat.datasets.lineage import lineage as chain_of
    from advfeat.datasets.lineage import lineage_text

    place = readable_store(store)
    chain = chain_of(place, place.resolve(digest))
    if as_json:
        print(json.dumps([link.model_dump() for link in chain.values()]))
        return
    for line in lineage_text(chain).splitlines():
        print(folded(line, sys.stdout, indent=len(line) - len(line.lstrip(_OF_TREES)) + 2))


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (export, card, lineage):
        app.command()(command)


@contextmanager
def _bar() -> "Iterator[Progress]":
    """Show on standard error, where that is a terminal, how many images are written."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as shown:
        bar = shown.add_task("images")
        yield lambda done, total: shown.update(bar, completed=done, total=total)
