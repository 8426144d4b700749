"""Commands that keep a store in order: what fills it, what can go, whether it is whole."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from advfeat.errors import InputError
from advfeat.flows.command_line.options import DEFAULT_STORE, AsJSON, StoreURI
from advfeat.flows.command_line.store_commands import readable_store

if TYPE_CHECKING:
    from advfeat.storage import Store

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def du(store: StoreURI = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """Show what fills the store: by kind, by run, and what no run uses."""
    from advfeat.upkeep.reachability import read_runs
    from advfeat.upkeep.stock import take_stock
    from advfeat.upkeep.usage import usage

    place = readable_store(store)
    stock = take_stock(place)
    found = usage(place, stock, read_runs(place, stock.inventory.records))
    if as_json:
        print(json.dumps({"bytes": found.bytes, **asdict(found)}))
        return
    from advfeat.flows.command_line.upkeep_tables import print_usage

    print_usage(found)


def gc(
    store: StoreURI = DEFAULT_STORE,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            metavar="AGE",
            help="let go of runs that ended longer ago, such as 30d or 12h, and of what only they use",
        ),
    ] = None,
    forget: Annotated[
        list[str] | None,
        typer.Option("--forget", metavar="RUN", help="let go of a run, and of what only it uses"),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="delete it; without this, only show it")] = False,
    as_json: AsJSON = False,
) -> None:
    """Delete what no run of the store uses; shows first what that would be.

    A completed run uses its report and what that was made from; a run that goes on or has not been
    completed, all stages of its plan. What is younger than an hour stays, and leftovers of writers that
    were killed stay for a day. Ages are told by the store's own clock: to read it, a small file is written
    and deleted, also where nothing else is.
    """
    from advfeat.upkeep.garbage import Forgotten, collect, find_garbage, forgotten_runs, survey
    from advfeat.upkeep.reachability import read_runs

    age = None if older_than is None else parse_age(older_than)
    place = readable_store(store)
    surveyed = survey(place)
    runs = read_runs(place, surveyed.inventory.records)
    forgotten = Forgotten(forgotten_runs(runs, forget or (), surveyed.now), age)
    garbage = (
        collect(place, surveyed, forgotten) if delete else find_garbage(place, surveyed, runs, forgotten)
    )
    if as_json:
        shown = [
            {"what": entry.what, "name": entry.name, "why": entry.why, "bytes": entry.bytes}
            for entry in garbage
        ]
        print(json.dumps({"deleted": delete, "garbage": shown}))
        return
    from advfeat.flows.command_line.upkeep_tables import print_garbage

    print_garbage(garbage, deleted=delete)


def verify(
    digest: Annotated[str | None, typer.Argument(metavar="DIGEST", help="one; all if unset")] = None,
    store: StoreURI = DEFAULT_STORE,
    repair: Annotated[bool, typer.Option("--repair", help="compute again what is damaged")] = False,
) -> None:
    """Read every byte again and compare it with the manifests; exit code 1 if anything is wrong.

    With --repair it is 1 if anything stays wrong. What is damaged is computed again on this machine, as the
    plan of a run or its own manifest says; it stays until its replacement is there.
    """
    place = readable_store(store)
    digests = place.digests() if digest is None else [place.resolve(digest)]
    damaged = []
    for entry in digests:
        problem = place.verify(entry)
        if problem is not None:
            damaged.append(entry)
            print(f"{entry}  DAMAGED  {problem}", flush=True)
    print(f"{len(digests)} artifacts read, {len(damaged)} damaged", flush=True)
    failed = _repair(place, damaged) if repair and damaged else len(damaged)
    if failed:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (du, gc, verify):
        app.command()(command)


def parse_age(text: str) -> timedelta:
    """Read an age such as 30d, 12h or 90m; raises ``InputError``."""
    match = re.fullmatch(r"(\d{1,4})([mhdw])", text)
    if match is None:
        raise InputError("--older-than", text, "is no age", "write for example 90m, 12h, 30d or 8w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _repair(place: "Store", damaged: Iterable[str]) -> int:
    """Compute damaged artifacts again, a line each; return how many could not be."""
    from advfeat.upkeep.repair import repair

    failed = 0
    for mended in repair(place, damaged):
        line = f"{mended.digest}  {{}}  {mended.title}"
        if mended.failure is not None:
            failed += 1
            print(f"{line.format('NOT REPAIRED')}: {mended.failure}", flush=True)
            continue
        print(f"{line.format('repaired')} ({mended.seconds:.1f} s)", flush=True)
        if mended.changed:
            print(
                f"{mended.digest}  CHANGED  {', '.join(mended.changed)}: whole, but not as before, as on "
                "another machine; what was made from it earlier is of the former bytes",
                flush=True,
            )
    return failed
