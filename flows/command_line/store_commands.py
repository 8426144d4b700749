"""Commands that look into a store: what is there, what runs found."""

import json
import sys
import webbrowser
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from advfeat.errors import InputError
from advfeat.flows.command_line.options import DEFAULT_STORE, AsJSON, Digest, Run, StoreURI
from advfeat.flows.command_line.output import print_model

if TYPE_CHECKING:
    from advfeat.storage import Store

RecipeFilter = Annotated[
    str | None, typer.Option("--recipe", metavar="RECIPE", help="only this recipe, such as d_det")
]

Last = Annotated[
    int, typer.Option("--last", metavar="N", min=1, help="look at so many, the latest, and at no others")
]
Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN RUN …", help="starts of two to eight runs' ids, or of their reports' digests"
    ),
]
_MOST_COMPARED = 8
_Entry = TypeVar("_Entry")


def ls(
    store: StoreURI = DEFAULT_STORE,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="STAGE", help="only this stage, such as dataset")
    ] = None,
    recipe: RecipeFilter = None,
    last: Last = 1000,
    as_json: AsJSON = False,
) -> None:
    """List the artifacts in the store, with the first digits of their digests."""
    from advfeat.catalogue.descriptions import chosen, described

    found = chosen(_latest(described(readable_store(store), last + 1), last), stage, recipe)
    if as_json:
        print(json.dumps([entry.model_dump() for entry in found]))
        return
    from advfeat.flows.command_line.table import print_artifacts

    print_artifacts(found)


def show(digest: Digest, store: StoreURI = DEFAULT_STORE) -> None:
    """Print the manifest of an artifact and its location."""
    place = readable_store(store)
    manifest = place.manifest(place.resolve(digest))
    content: dict[str, Any] = {"uri": place.artifact_uri(manifest.digest), **manifest.model_dump()}
    print(json.dumps(content, indent=2))


def runs(
    store: StoreURI = DEFAULT_STORE, recipe: RecipeFilter = None, last: Last = 100, as_json: AsJSON = False
) -> None:
    """List the runs that used the store, the latest last."""
    from advfeat.catalogue.run_descriptions import described_runs, runs_of

    found = runs_of(_latest(described_runs(readable_store(store), last + 1), last), recipe)
    if as_json:
        print(
            json.dumps([{**run.record.model_dump(), **run.model_dump(exclude={"record"})} for run in found])
        )
        return
    from advfeat.flows.command_line.table import print_runs

    print_runs(found)


def report(
    run: Run,
    store: StoreURI = DEFAULT_STORE,
    in_browser: Annotated[bool, typer.Option("--open", help="also open it in the browser")] = False,
) -> None:
    """Copy the report of a run from the store and print its path."""
    from advfeat.storage.runs import report_named

    place = readable_store(store)
    digest = report_named(place, run)
    from advfeat.flows.report_copy import local_copy

    page = local_copy(place, digest, place.manifest(digest).stage.replace("_", "-"))
    print(page)
    if in_browser and not webbrowser.open(page.as_uri()):
        print("advfeat: no browser was found here; open that file in one", file=sys.stderr)
        raise typer.Exit(1)


def compare(runs: Runs, store: StoreURI = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """Show in which parameters runs differ, and what came of it: each against the first."""
    from advfeat.report.comparison import compare as compared
    from advfeat.storage.runs import report_named

    if not 2 <= len(runs) <= _MOST_COMPARED:
        raise InputError("run", ", ".join(runs), "cannot be compared", f"name two to {_MOST_COMPARED} runs")
    place = readable_store(store)
    comparison = compared(place, *(report_named(place, run) for run in runs))
    if as_json:
        print_model(comparison)
        return
    from advfeat.flows.command_line.table import print_comparison

    print_comparison(comparison)


def _latest(found: list[_Entry], last: int) -> list[_Entry]:
    """Return so many of what was found, the oldest first, and say if there are more."""
    if len(found) > last:
        print(f"advfeat: the latest {last:,}; a larger --last shows older ones", file=sys.stderr)
    return found[-last:]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (runs, report, compare, ls, show):
        app.command()(command)


def readable_store(store: str) -> "Store":
    """Open a store that can be read; raises ``InputError``."""
    from advfeat.storage import Store

    place = Store(store)
    place.check_readable()
    return place
