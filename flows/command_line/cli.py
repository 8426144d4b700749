"""The command line. It starts flows, so it lives above them; heavy imports wait until needed."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from advfeat import __version__
from advfeat.errors import AdvfeatError, InputError, OutputLostError, first_line
from advfeat.flows.command_line import (
    cluster_commands,
    dataset_commands,
    new_commands,
    store_commands,
    track_command,
    upkeep_commands,
)
from advfeat.flows.command_line.options import (
    DEFAULT_STORE,
    AsJSON,
    Assignments,
    GPUsPerStage,
    Note,
    Quiet,
    RayAddress,
    Source,
    StageTimeout,
    StoreURI,
    Track,
)
from advfeat.flows.command_line.output import (
    Output,
    folded,
    prepare_output,
    print_model,
    standard_output_kept_for_result,
)
from advfeat.flows.command_line.track_command import print_told, target_named

if TYPE_CHECKING:
    from advfeat.flows.result import RunResult
    from advfeat.planning import Experiment
    from advfeat.storage import Store
    from advfeat.tracking.targets import Target

app = typer.Typer(
    help="Experiments on learning from errors, as distributed workflows.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

EXIT_FAILURE, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"advfeat {__version__}")
        raise typer.Exit


@app.callback()
def _before_any_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Experiments on learning from errors, as distributed workflows."""


@app.command()
def run(
    source: Source = "digits",
    assignments: Assignments = None,
    store: StoreURI = DEFAULT_STORE,
    ray: RayAddress = None,
    stage_timeout: StageTimeout = None,
    gpus_per_stage: GPUsPerStage = None,
    track: Track = None,
    note: Note = None,
    quiet: Quiet = False,
    as_json: AsJSON = False,
) -> None:
    """Run an experiment: make a data set per recipe, train and test target models, write a report."""
    from advfeat.planning import load_experiment

    with standard_output_kept_for_result():
        experiment = load_experiment(source, assignments or [])
    target = target_named(track)
    result, place = _run(experiment, store, ray, stage_timeout, gpus_per_stage, note, quiet)
    from advfeat.flows.command_line.table import print_rows

    _print_result(result, place, experiment.name, as_json, print_rows)
    _tell(target, place, result, as_json)


@app.command()
def reproduce(
    setting: Annotated[
        str, typer.Argument(metavar="SETTING", help="digits, mnist, cifar10 or cifar10-paper")
    ] = "digits",
    assignments: Assignments = None,
    store: StoreURI = DEFAULT_STORE,
    ray: RayAddress = None,
    stage_timeout: StageTimeout = None,
    gpus_per_stage: GPUsPerStage = None,
    track: Track = None,
    note: Note = None,
    quiet: Quiet = False,
    as_json: AsJSON = False,
) -> None:
    """Run all experiments of the discussion and compare the results with the published ones."""
    from advfeat.planning import load_reproduction

    with standard_output_kept_for_result():
        experiment = load_reproduction(setting, assignments or [])
    target = target_named(track)
    result, place = _run(experiment, store, ray, stage_timeout, gpus_per_stage, note, quiet)
    from advfeat.flows.command_line.table import print_reproduction

    _print_result(result, place, experiment.name, as_json, print_reproduction)
    _tell(target, place, result, as_json)


@app.command()
def grid(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="clean, d_rand, d_det, …, or a FILE.py")],
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="AXIS=[VALUES]",
            help="values of an axis, such as eps=[0.5,1.0]; names with dots are fields of all experiments, "
            r"other fields go into settings=\[leakage_eps=0.5]",
        ),
    ] = None,
    store: StoreURI = DEFAULT_STORE,
    ray: RayAddress = None,
    at_once: Annotated[
        int | None, typer.Option("--at-once", metavar="STAGES", min=1, help="most stages at a time")
    ] = None,
    stage_timeout: StageTimeout = None,
    gpus_per_stage: GPUsPerStage = None,
    track: Track = None,
    note: Note = None,
    quiet: Quiet = False,
    as_json: AsJSON = False,
) -> None:
    """Run one recipe with all combinations of the given values; shared stages are computed once."""
    from advfeat.planning import load_grid, title_of
    from advfeat.recipes import plain_name, recipe_named
    from advfeat.storage import Store

    if ray is not None:
        os.environ["RAY_ADDRESS"] = ray
    with standard_output_kept_for_result():
        name = recipe_named(recipe).identity
        form = load_grid(name, assignments or [])
    target = target_named(track)
    place = Store(store)
    place.check_writable()
    with standard_output_kept_for_result(), _quiet(quiet):
        from advfeat.flows.launch import launch_grid

        result = launch_grid(name, form, place, at_once, stage_timeout, note, gpus_per_stage)
    from advfeat.flows.command_line.table import print_grid

    _print_result(
        result,
        place,
        f"grid-{plain_name(name)}",
        as_json,
        lambda rows: print_grid(title_of(name, form), rows),
    )
    _tell(target, place, result, as_json)


@app.command()
def plan(
    source: Source = "digits",
    assignments: Assignments = None,
    store: StoreURI = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Show the stages of a run, their digests, which are cached, which must be computed, and why.

    The images that were found, their classes and splits, and what was left out go to standard error.
    """
    from advfeat.data.found import found
    from advfeat.flows.command_line.found_lines import print_found
    from advfeat.planning import build_plan, load_experiment, outlook, with_reasons
    from advfeat.storage import Store

    place = Store(store)
    with standard_output_kept_for_result():  # which code of the user's own may print to
        experiment = load_experiment(source, assignments or [])
        place.check_readable()
        entries = with_reasons(outlook(build_plan(experiment), place), place)
    for spec in experiment.data_specs:
        print_found(found(spec), spec.source)
    if as_json:
        print(json.dumps([entry.described() for entry in entries]))
        return
    from advfeat.flows.command_line.table import print_plan

    print_plan(entries)


@app.command()
def recipes(as_json: AsJSON = False) -> None:
    """List the recipes: the data set that a target model learns from, and the claim about it."""
    from advfeat.recipes import RECIPES

    if as_json:
        names = ("name", "summary", "paper", "control")
        print(json.dumps([{name: getattr(recipe, name) for name in names} for recipe in RECIPES.values()]))
        return
    from advfeat.flows.command_line.table import print_recipes

    print_recipes(RECIPES.values())


@app.command()
def presets(as_json: AsJSON = False) -> None:
    """List the presets that an experiment can start from."""
    from advfeat.planning import preset_summaries

    summaries = preset_summaries()
    if as_json:
        print(json.dumps([{"name": name, "summary": text} for name, text in summaries.items()]))
        return
    from advfeat.flows.command_line.table import print_presets

    print_presets(summaries)


@app.command()
def deploy(
    pool: Annotated[str, typer.Argument(metavar="POOL", help="work pool that runs them")],
    store: StoreURI = DEFAULT_STORE,
    image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="container image, for pools of containers")
    ] = None,
) -> None:
    """Create deployments on your Prefect server: main job, regression check, one form per recipe."""
    from advfeat.flows.prefect_api import configured_api

    configured_api()  # before anything else asks Prefect, which would fail at settings that it cannot read
    from advfeat.flows.deployments import deploy_to, earlier
    from advfeat.storage import Store

    made = deploy_to(pool, Store(store).uri, image)
    for name in made:
        print(name)
    mended, lost, doubled = earlier(made, pool)
    if mended:
        print(
            f"advfeat: {', '.join(mended)}: made by an earlier version; their runs and schedules find their "
            "flows where they are now",
            file=sys.stderr,
        )
    if lost:
        print(
            f"advfeat: {', '.join(lost)}: made by an earlier version, so their runs cannot find the flow; "
            "deploy them to their pools again, or delete them: prefect deployment delete NAME",
            file=sys.stderr,
        )
    if doubled:
        print(
            f"advfeat: {', '.join(doubled)}: made by an earlier version; their runs and schedules continue; "
            "delete them once the new ones take their place: prefect deployment delete NAME",
            file=sys.stderr,
        )


store_commands.register(app)
track_command.register(app)
upkeep_commands.register(app)
dataset_commands.register(app)
cluster_commands.register(app)
new_commands.register(app)


def main() -> None:
    """Run the command line; errors raised on purpose are one line and an exit code."""
    came = _signals_that_came()
    signal.signal(signal.SIGTERM, _interrupt)
    output = prepare_output()
    if output is None:
        print("advfeat: standard output is closed; send it to a file or to /dev/null", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    try:
        _run_command(output)
    except BaseException as error:
        # A library that a signal interrupted may raise an error of its own instead.
        if came() & {signal.SIGINT, signal.SIGTERM}:
            code, message = EXIT_INTERRUPTED, "interrupted; finished stages are kept"
        elif isinstance(error, AdvfeatError):
            code, message = EXIT_BAD_INPUT if isinstance(error, InputError) else EXIT_FAILURE, str(error)
        else:
            raise
        print(folded(f"advfeat: {message}", sys.stderr), file=sys.stderr)
        sys.exit(code)


def _run_command(output: Output) -> None:
    """Run the command that was asked for; raises ``OutputLostError`` if what it prints cannot be written."""
    try:
        app()
    finally:
        with contextlib.suppress(OSError):  # which is kept
            sys.stdout.flush()
        if isinstance(output.error, BrokenPipeError):  # who reads no further need not be told
            sys.exit(EXIT_FAILURE)
        if output.error is not None:
            problem = f"standard output cannot be written ({first_line(output.error)})"
            raise OutputLostError(f"{problem}; what was computed is kept") from None


def _run(
    experiment: "Experiment",
    store: str,
    ray: str | None,
    stage_timeout: float | None,
    gpus_per_stage: float | None,
    note: str | None,
    quiet: bool,
) -> "tuple[RunResult, Store]":
    """Run an experiment, after all checks; return its result and its store."""
    from advfeat.data import fetch
    from advfeat.flows.given import check_gpus_per_stage
    from advfeat.storage import Store

    check_gpus_per_stage(gpus_per_stage)
    if ray is not None:
        os.environ["RAY_ADDRESS"] = ray
    place = Store(store)
    place.check_writable()
    for spec in experiment.data_specs:
        fetch(spec)
    with standard_output_kept_for_result(), _quiet(quiet):
        from advfeat.flows.launch import launch

        return launch(experiment, place, stage_timeout, note, gpus_per_stage), place


def _quiet(wanted: bool) -> contextlib.AbstractContextManager[None]:
    from advfeat.flows.display.lines import quiet

    return quiet(wanted)


def _tell(target: "Target | None", place: "Store", result: "RunResult", as_json: bool) -> None:
    """Tell another tool of a run whose result was printed; raises ``TrackingError``."""
    if target is None:
        return
    with standard_output_kept_for_result():
        told = target.tell(place, result.run)
    if not as_json:
        print_told(told)


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


def _print_result(
    result: "RunResult", place: "Store", name: str, as_json: bool, print_table: Callable[[Any], None]
) -> None:
    """Print a run's result, with its report copied to where a browser can open it."""
    from advfeat.flows.report_copy import local_copy

    page = local_copy(place, result.report, name)
    result = result.model_copy(update={"report": str(page)})
    if as_json:
        print_model(result)
        return
    print_table(result.rows)
    stages = result.stages
    print(f"{stages.total} stages, {stages.computed} computed, {stages.cached} cached, {result.seconds} s")
    print(f"report: {page}")
