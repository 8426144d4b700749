"""``advfeat up``, ``down`` and ``status``: a whole cluster on this machine."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal

from advfeat.errors import InputError
from advfeat.flows.command_line.options import AsJSON

if TYPE_CHECKING:
    from advfeat.cluster.control import ClusterStatus

_WIDE = 140
"""Where the output is no terminal."""


def up(
    workers: Annotated[
        int | None, typer.Option(min=1, help="number of Ray worker nodes", show_default="2")
    ] = None,
    cores_per_worker: Annotated[
        int | None, typer.Option(min=1, help="cores per worker", show_default="this machine's, divided")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Start a cluster on this machine: Prefect server, S3, Ray nodes, a deployment for the UI."""
    from advfeat.cluster import control
    from advfeat.cluster.embedded import HOME

    status = control.up(HOME, workers, cores_per_worker, _say)
    if as_json:
        _print_json(status)
        return
    print(f"Prefect  {status.prefect}")
    print("log in   with the line that this prints: cat .advfeat/cluster/login")
    print(f"S3       {status.s3}")
    print(f"store    {status.store}")
    print(f"Ray      {status.ray}")
    print("To run on it:   source .advfeat/cluster/env && advfeat run")


def down(
    delete: Annotated[bool, typer.Option("--delete", help="also delete its data and credentials")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="delete without asking")] = False,
) -> None:
    """Stop the cluster of this folder; artifacts and credentials are kept."""
    from advfeat.cluster import control
    from advfeat.cluster.embedded import HOME

    if delete and not yes and (size := control.stored_bytes(HOME)):
        _ask(HOME.resolve() / "cluster", size)
    if os.environ.get("PREFECT_API_URL") in control.addresses(HOME):
        _say("this shell sourced .advfeat/cluster/env and will look for the cluster: open another one")
    print("stopped" if control.down(HOME, delete, _say) else "no cluster is running")


def _ask(folder: Path, size: int) -> None:
    """Ask before a cluster's data are deleted; raises ``InputError`` where nobody can answer."""
    what = f"{folder}, {decimal(size)}: artifacts, Prefect's database, credentials"
    if not sys.stdin.isatty():
        raise InputError("--delete", what, "would be deleted without asking", "add --yes")
    typer.confirm(f"Delete {what}?", abort=True)


def status(as_json: AsJSON = False) -> None:
    """Show each service of the cluster; exit code 1 if one is down or none runs."""
    from advfeat.cluster import control
    from advfeat.cluster.embedded import HOME

    found = control.status(HOME)
    if found is None:
        print(json.dumps({"services": []}) if as_json else "no cluster is running")
        raise typer.Exit(1)
    if as_json:
        _print_json(found)
    else:
        _print_services(found)
    if not found.healthy:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (up, down, status):
        app.command()(command)


def _print_services(found: "ClusterStatus") -> None:
    from advfeat.flows.command_line.fitting import Column, console_of, print_table

    services = found.services
    columns = [
        Column("", [service.name for service in services]),
        Column("", [service.state for service in services], is_text=True),
        Column(
            "", [f"since {service.since}" if service.since else "" for service in services], 1, is_text=True
        ),
        Column("", [f"pid {service.pid or '–'}" for service in services], 2, is_text=True),
        Column("", [service.address for service in services], is_text=True),
    ]
    print_table(console_of(_WIDE), columns, plain=True)


def _print_json(status: "ClusterStatus") -> None:
    print(json.dumps({**asdict(status), "healthy": status.healthy}))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
