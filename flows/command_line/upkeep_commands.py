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
from advfeat.flows.whose import this_user

if TYPE_CHECKING:
    from advfeat.storage import Store

_VERIFIED_AHEAD = 4
"""Artifacts of which parts are in memory at a time."""

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def du(store: StoreURI = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """Show what fills the store: by kind, by run, and what no run uses."""
    from advfeat.flows.display.lines import now_and_then, waiting
    from advfeat.upkeep.reachability import read_runs
    from advfeat.upkeep.stock import take_stock
    from advfeat.upkeep.usage import usage

    place = readable_store(store)
    with waiting("listing the store …"):
        stock = take_stock(place, now_and_then("manifests read"))
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
            help="drop runs that ended longer ago than this, such as 30d or 12h",
        ),
    ] = None,
    forget: Annotated[
        list[str] | None,
        typer.Option("--forget", metavar="RUN", help="drop this run, and what only it uses"),
    ] = None,
    everyones: Annotated[
        bool, typer.Option("--everyones", help="also drop runs of other users; without this, they count")
    ] = False,
    delete: Annotated[bool, typer.Option("--delete", help="delete it; without this, only show it")] = False,
    as_json: AsJSON = False,
) -> None:
    """Show what no run of the store uses any more; with --delete, delete it.

    A completed run uses its report and everything that the report was made from. Any other run uses all
    stages of its plan. Runs of other users are not dropped unless you add --everyones. Files younger than an
    hour stay, and leftovers of killed writers stay for a day. Ages are measured with the store's own clock:
    to read it, a small file is written and deleted in any case.
    """
    from advfeat.flows.display.lines import now_and_then, waiting
    from advfeat.upkeep.garbage import Forgotten, collect, find_garbage, forgotten_runs, survey
    from advfeat.upkeep.reachability import read_runs

    age = None if older_than is None else parse_age(older_than)
    place = readable_store(store)
    with waiting("listing the store …"):
        surveyed = survey(place, now_and_then("manifests read"))
    runs = read_runs(place, surveyed.inventory.records)
    user = None if everyones else this_user()
    forgotten = Forgotten(forgotten_runs(runs, forget or (), surveyed.now, user), age, user)
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
    digest: Annotated[
        str | None, typer.Argument(metavar="DIGEST", help="only this artifact; default: all")
    ] = None,
    store: StoreURI = DEFAULT_STORE,
    repair: Annotated[bool, typer.Option("--repair", help="compute damaged artifacts again")] = False,
) -> None:
    """Read every byte again and compare it with the manifests; exit code 1 if anything is damaged.

    With --repair, damaged artifacts are computed again on this machine, as the plan of a run or their own
    manifest says, and stay until their replacement is complete. Exit code 1 if anything remains damaged.
    """
    from advfeat.ahead import computed_ahead
    from advfeat.flows.display.lines import now_and_then
    from advfeat.storage.readable import NO_MANIFEST

    place = readable_store(store)
    digests = place.begun() if digest is None else [place.resolve(digest)]
    damaged, read, tell = [], 0, now_and_then("artifacts read")
    problems = computed_ahead(place.verify, digests, _VERIFIED_AHEAD)
    for number, (entry, problem) in enumerate(zip(digests, problems, strict=True), start=1):
        if problem == NO_MANIFEST:  # it is no artifact yet
            continue
        read += 1
        if problem is not None:
            damaged.append(entry)
            print(f"{entry}  DAMAGED  {problem}", flush=True)
        tell(number, len(digests))
    print(f"{read} artifacts read, {len(damaged)} damaged", flush=True)
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
        raise InputError("--older-than", text, "is not an age", "write for example 90m, 12h, 30d or 8w")
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
                f"{mended.digest}  CHANGED  {', '.join(mended.changed)}: complete, but with other bytes than "
                "before, as on another machine; artifacts made from it earlier used the former bytes",
                flush=True,
            )
    return failed
