"""The command line. It starts flows, so it lives above them; heavy imports wait until needed."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from advfeat.errors import AdvfeatError, InputError
from flows import cluster_commands

app = typer.Typer(
    help="Experiments on learning from errors, as distributed workflows.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

DEFAULT_STORE = "./.advfeat/store"
EXIT_FAILURE, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130

Source = Annotated[str, typer.Argument(metavar="PRESET | FILE.yaml", help="experiment to run")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="change a field, such as attack.eps=1.0"),
]
StoreURI = Annotated[
    str, typer.Option("--store", envvar="ADVFEAT_STORE", help="folder or fsspec URI of the store")
]
AsJSON = Annotated[bool, typer.Option("--json", help="print one JSON value on standard output")]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray", envvar="RAY_ADDRESS", metavar="HOST:PORT", help="run on this Ray cluster"),
]
StageTimeout = Annotated[
    float | None,
    typer.Option("--stage-timeout", metavar="SECONDS", min=1, help="give up a stage after this time"),
]
Digest = Annotated[str, typer.Argument(metavar="DIGEST", help="digest, or enough of its start")]


@app.command()
def run(
    source: Source = "digits",
    assignments: Assignments = None,
    store: StoreURI = DEFAULT_STORE,
    ray: RayAddress = None,
    stage_timeout: StageTimeout = None,
    as_json: AsJSON = False,
) -> None:
    """Train source models, build a data set per recipe, train target models on them, report."""
    from advfeat.data import fetch
    from advfeat.experiment_file import load_experiment
    from advfeat.store import Store

    if ray is not None:
        os.environ["RAY_ADDRESS"] = ray
    experiment = load_experiment(source, assignments or [])
    place = Store(store)
    place.check_writable()
    fetch(experiment.data)
    with _standard_output_kept_for_result():
        from flows.launch import launch

        result = launch(experiment, place, stage_timeout)
    from flows.table import print_rows

    _print_result(result, place, experiment.name, as_json, print_rows)


@app.command()
def grid(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="clean, d_rand, d_det, …")],
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="AXIS=[VALUES]",
            help="values of an axis, such as eps=[0.5,1.0]; names with dots are fields of all experiments",
        ),
    ] = None,
    store: StoreURI = DEFAULT_STORE,
    ray: RayAddress = None,
    at_once: Annotated[
        int | None, typer.Option("--at-once", metavar="STAGES", min=1, help="stages computed at a time")
    ] = None,
    stage_timeout: StageTimeout = None,
    as_json: AsJSON = False,
) -> None:
    """Run one recipe over a grid: every combination of the values given, shared parts once."""
    from advfeat.grid import load_grid, recipe_named, title_of
    from advfeat.store import Store

    if ray is not None:
        os.environ["RAY_ADDRESS"] = ray
    name = recipe_named(recipe)
    form = load_grid(name, assignments or [])
    place = Store(store)
    place.check_writable()
    with _standard_output_kept_for_result():
        from flows.launch import launch_grid

        result = launch_grid(name, form, place, at_once, stage_timeout)
    from flows.table import print_grid

    _print_result(result, place, f"grid-{name}", as_json, lambda rows: print_grid(title_of(name, form), rows))


@app.command()
def plan(
    source: Source = "digits",
    assignments: Assignments = None,
    store: StoreURI = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Show every stage, its digest, and whether it is cached or to be computed, and why."""
    from advfeat.experiment_file import load_experiment
    from advfeat.plan import build_plan, outlook
    from advfeat.store import Store

    place = Store(store)
    experiment = load_experiment(source, assignments or [])
    place.check_readable()
    entries = outlook(build_plan(experiment), place)
    if as_json:
        print(
            json.dumps(
                [
                    {
                        "digest": entry.stage.digest,
                        "stage": entry.stage.kind,
                        "title": entry.stage.title,
                        "state": entry.state,
                        "why": entry.why,
                    }
                    for entry in entries
                ]
            )
        )
        return
    width = max(len(entry.stage.title) for entry in entries)
    for entry in entries:
        print(f"{entry.stage.digest[:12]}  {entry.state:7}  {entry.stage.title:{width}}  {entry.why}")
    cached = sum(entry.state == "cached" for entry in entries)
    print(f"{len(entries)} stages: {cached} cached, {len(entries) - cached} to compute")


@app.command()
def ls(store: StoreURI = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """List the artifacts in the store."""
    place = _readable(store)
    references = sorted(
        (manifest.reference(place.artifact_uri(manifest.digest)) for manifest in place.manifests()),
        key=lambda reference: (reference.created, reference.stage, reference.digest),
    )
    if as_json:
        shown = {"digest", "stage", "uri", "bytes", "created"}
        print(json.dumps([reference.model_dump(include=shown) for reference in references]))
        return
    for reference in references:
        print(
            f"{reference.digest[:12]}  {reference.stage:12}  {reference.bytes:>13,} B  "
            f"{reference.created}  {reference.uri}"
        )


@app.command()
def show(digest: Digest, store: StoreURI = DEFAULT_STORE) -> None:
    """Print the manifest of an artifact and where it lies."""
    place = _readable(store)
    manifest = place.manifest(place.resolve(digest))
    content: dict[str, Any] = {"uri": place.artifact_uri(manifest.digest), **manifest.model_dump()}
    print(json.dumps(content, indent=2))


@app.command()
def report(digest: Digest, store: StoreURI = DEFAULT_STORE) -> None:
    """Copy a report out of the store and print where it is; a run prints its report's digest."""
    place = _readable(store)
    manifest = place.manifest(place.resolve(digest))
    if manifest.stage not in ("report", "grid_report"):
        raise InputError(
            "digest", digest, f"is a {manifest.stage}, not a report", "list them with: advfeat ls"
        )
    print(_local_copy(place, manifest.digest, manifest.stage.replace("_", "-")))


@app.command()
def verify(
    digest: Annotated[str | None, typer.Argument(metavar="DIGEST", help="one; all if unset")] = None,
    store: StoreURI = DEFAULT_STORE,
) -> None:
    """Read every byte again and compare it with the manifests; exit code 1 if anything is wrong."""
    place = _readable(store)
    digests = place.digests() if digest is None else [place.resolve(digest)]
    damaged = 0
    for entry in digests:
        problem = place.verify(entry)
        if problem is not None:
            damaged += 1
            print(f"{entry}  DAMAGED  {problem}")
    print(f"{len(digests)} artifacts read, {damaged} damaged")
    if damaged:
        raise typer.Exit(EXIT_FAILURE)


cluster_commands.register(app)


def main() -> None:
    """Run the command line; errors raised on purpose are one line and an exit code."""
    came = _signals_that_came()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except BaseException as error:
        # A library that a signal interrupted may raise an error of its own instead.
        if came() & {signal.SIGINT, signal.SIGTERM}:
            code, message = EXIT_INTERRUPTED, "interrupted; what was finished is kept"
        elif isinstance(error, AdvfeatError):
            code, message = EXIT_BAD_INPUT if isinstance(error, InputError) else EXIT_FAILURE, str(error)
        else:
            raise
        print(f"advfeat: {message}", file=sys.stderr)
        sys.exit(code)


def _signals_that_came() -> Callable[[], set[int]]:
    """Return a function that tells which signals came, also those that a library handled."""
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def came() -> set[int]:
        with contextlib.suppress(BlockingIOError):
            return set(os.read(reading, 4096))
        return set()

    return came


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _readable(store: str) -> Any:
    from advfeat.store import Store

    place = Store(store)
    place.check_readable()
    return place


def _print_result(
    result: Any, place: Any, name: str, as_json: bool, print_table: Callable[[Any], None]
) -> None:
    """Print a run's result, with its report copied to where a browser can open it."""
    page = _local_copy(place, result.report, name)
    result = result.model_copy(update={"report": str(page)})
    if as_json:
        print(result.model_dump_json())
        return
    print_table(result.rows)
    stages = result.stages
    print(f"{stages.total} stages, {stages.computed} computed, {stages.cached} cached, {result.seconds} s")
    print(f"report: {page}")


def _local_copy(place: Any, digest: str, name: str) -> Path:
    """Copy a report out of the store, to where a browser can open it."""
    from advfeat.local import HOME

    page = HOME.resolve() / "reports" / f"{name}-{digest[:12]}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_bytes(place.read(digest, "report.html"))
    return page


@contextlib.contextmanager
def _standard_output_kept_for_result() -> Any:
    """Send what libraries and child processes print to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
