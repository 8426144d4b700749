"""The command line as functions: ``advfeat.run``, ``grid``, ``reproduce``, ``plan``, ``track`` and ``store``.

Arguments have the names that they have there. A run uses the Prefect server, the Ray and the store that are
configured, and starts its own for as long as it lasts where none are.
"""

import asyncio
import ctypes
import json
import os
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from advfeat.ahead import begun
from advfeat.catalogue.catalogue import Catalogue
from advfeat.cluster.environment import is_about_proxies, settle
from advfeat.data import fetch
from advfeat.errors import AdvfeatError, InputError
from advfeat.flows.command_line.options import DEFAULT_STORE
from advfeat.flows.display import lines
from advfeat.flows.given import check_gpus_per_stage
from advfeat.flows.launch import launch, launch_grid
from advfeat.flows.report_copy import local_copy
from advfeat.planning import (
    Experiment,
    build_plan,
    load_experiment,
    load_grid,
    load_reproduction,
    outlook,
    title_of,
    with_reasons,
)
from advfeat.recipes import plain_name, recipe_named
from advfeat.report.frame import rows_frame
from advfeat.report.html import results_table
from advfeat.storage import Store

if TYPE_CHECKING:
    from advfeat.flows.result import RunResult
    from advfeat.tracking.targets import Target, Told

Answer = TypeVar("Answer")
Place = str | os.PathLike[str]


@dataclass(frozen=True)
class Result:
    """What a run found; a notebook shows it as the report's table."""

    title: str
    rows: pd.DataFrame
    """A line a recipe, in a grid one a point; columns and units: ``advfeat.report.frame.rows_frame``."""
    report: Path
    """The report, one HTML file on this machine."""
    run: str
    """The run's id, by which ``advfeat report`` and ``advfeat compare`` know it."""
    seconds: float
    stages: int
    computed: int
    cached: int
    """How many stages there were, were computed, and came from the store."""
    store: Catalogue
    table: str
    """The report's table of results, as HTML."""

    def __repr__(self) -> str:
        return f"<result of {self.title!r}: {len(self.rows)} rows, run {self.run[:8]}>"

    def _repr_html_(self) -> str:
        return self.table


@dataclass(frozen=True)
class PlanResult:
    """What a run would compute; a notebook shows it as a table."""

    rows: pd.DataFrame
    """A line a stage: ``digest``, ``stage``, ``title``, ``state`` (cached or compute), ``why``."""

    def _repr_html_(self) -> str:
        return str(self.rows.to_html(index=False))


def run(
    source: Place = "digits",
    settings: Mapping[str, Any] | None = None,
    *,
    store: Place | None = None,
    ray: str | None = None,
    stage_timeout: float | None = None,
    gpus_per_stage: float | None = None,
    track: str | None = None,
    note: str | None = None,
    quiet: bool = False,
) -> Result:
    """Train source models, build a data set per recipe, train target models on them, report.

    ``source`` is a preset or a YAML file; ``settings`` change fields by their dotted names, such as
    ``{"attack.eps": 1.0, "recipes": ["d_rand"]}``. ``store`` is a folder or an fsspec URI (``ADVFEAT_STORE``,
    or ``.advfeat/store`` if unset), ``ray`` the ``HOST:PORT`` of a cluster, ``stage_timeout`` in seconds,
    ``gpus_per_stage`` how much of a GPU a stage asks for, up to 1 (a whole one, if there are any, if unset).
    ``track`` names a tool that is told of the finished run, as ``to`` of ``advfeat.track``; if that fails
    in the end, a warning says how to repeat it. ``note`` is what you say of the run, for ``advfeat runs``;
    ``quiet`` tells nothing but problems while it goes on. What the store holds is not computed again. Raises
    ``InputError`` before anything starts, ``StageFailedError`` when all else has been computed.
    """
    return _run_experiment(
        load_experiment(os.fspath(source), _assignments(settings)),
        store,
        ray,
        stage_timeout,
        gpus_per_stage,
        track,
        note,
        quiet,
    )


def reproduce(
    setting: str = "digits",
    settings: Mapping[str, Any] | None = None,
    *,
    store: Place | None = None,
    ray: str | None = None,
    stage_timeout: float | None = None,
    gpus_per_stage: float | None = None,
    track: str | None = None,
    note: str | None = None,
    quiet: bool = False,
) -> Result:
    """Run every experiment of the discussion; ``setting`` is digits, mnist, cifar10 or cifar10-paper.

    The other arguments, and what is raised, are as of ``run``.
    """
    return _run_experiment(
        load_reproduction(setting, _assignments(settings)),
        store,
        ray,
        stage_timeout,
        gpus_per_stage,
        track,
        note,
        quiet,
    )


def grid(
    recipe: Place,
    axes: Mapping[str, Any] | None = None,
    *,
    store: Place | None = None,
    ray: str | None = None,
    at_once: int | None = None,
    stage_timeout: float | None = None,
    gpus_per_stage: float | None = None,
    track: str | None = None,
    note: str | None = None,
    quiet: bool = False,
) -> Result:
    """Run one recipe over a grid: every combination of the values given, shared parts once.

    ``axes`` holds lists of values by axis, such as ``{"eps": [0.5, 1.0], "seeds": [0, 1, 2]}``; names with
    dots are fields of all experiments. ``at_once`` limits how many stages are computed at a time. The other
    arguments, and what is raised, are as of ``run``.
    """
    name = recipe_named(os.fspath(recipe)).identity
    form = load_grid(name, _assignments(axes))
    _check_positive("at_once", at_once, least=1)
    _check_positive("stage_timeout", stage_timeout, least=1)
    check_gpus_per_stage(gpus_per_stage)
    target = _target(track)
    place = _writable(store)
    result = _computed(
        lambda: launch_grid(name, form, place, at_once, stage_timeout, note, gpus_per_stage),
        ray,
        is_quiet=quiet,
    )
    _tell(target, place, result)
    return _shown(result, place, title_of(name, form), f"grid-{plain_name(name)}")


def plan(
    source: Place = "digits", settings: Mapping[str, Any] | None = None, *, store: Place | None = None
) -> PlanResult:
    """Tell every stage of a run, its digest, and whether it is cached or to be computed, and why.

    Arguments as of ``run``; nothing is computed.
    """
    experiment = load_experiment(os.fspath(source), _assignments(settings))
    place = Store(_uri(store))
    place.check_readable()
    entries = with_reasons(outlook(build_plan(experiment), place), place)
    return PlanResult(pd.DataFrame.from_records([entry.described() for entry in entries]))


def store(uri: Place | None = None) -> Catalogue:
    """Open a store: a folder or an fsspec URI; ``ADVFEAT_STORE``, or ``.advfeat/store``, if unset.

    Raises ``InputError`` if it cannot be read.
    """
    place = Store(_uri(uri))
    place.check_readable()
    return Catalogue(place)


def track(run: str, to: str | None = None, *, store: Place | None = None) -> "Told":
    """Tell one of other people's tools of a finished run: its parameters, curves and figures, row by row.

    ``run`` is the start of a run's id (``Result.run``), or of its report's digest; ``to`` is ``mlflow:URI``,
    ``wandb:PROJECT`` or ``tensorboard:FOLDER`` (``ADVFEAT_TRACK`` if unset). Returns how many rows the run
    has, and how many are new there. Raises ``InputError``, and ``TrackingError`` where the tool fails.
    """
    place = Store(_uri(store))
    place.check_readable()
    if (target := _target(to)) is None:
        raise InputError("to", to, "names no tool", "give it, or set ADVFEAT_TRACK")
    return target.tell(place, run)


def _target(named: str | None) -> "Target | None":
    named = named or os.environ.get("ADVFEAT_TRACK")
    if not named:
        return None
    from advfeat.tracking.targets import Target

    return Target(named)


def _tell(target: "Target | None", place: Store, result: "RunResult") -> None:
    """Tell of a run; what fails is a warning, as the result is there."""
    if target is None:
        return
    try:
        target.tell(place, result.run)
    except AdvfeatError as failure:
        warnings.warn(str(failure), stacklevel=4)


def _run_experiment(
    experiment: Experiment,
    store: Place | None,
    ray: str | None,
    stage_timeout: float | None,
    gpus_per_stage: float | None,
    track: str | None,
    note: str | None,
    is_quiet: bool,
) -> Result:
    _check_positive("stage_timeout", stage_timeout, least=1)
    check_gpus_per_stage(gpus_per_stage)
    target = _target(track)
    place = _writable(store)
    for spec in experiment.data_specs:
        fetch(spec)
    result = _computed(
        lambda: launch(experiment, place, stage_timeout, note, gpus_per_stage), ray, is_quiet=is_quiet
    )
    _tell(target, place, result)
    return _shown(result, place, experiment.name, experiment.name)


def _shown(result: "RunResult", place: Store, title: str, name: str) -> Result:
    return Result(
        title=title,
        rows=rows_frame(result.rows),
        report=local_copy(place, result.report, name),
        run=result.run,
        seconds=result.seconds,
        stages=result.stages.total,
        computed=result.stages.computed,
        cached=result.stages.cached,
        store=Catalogue(place),
        table=results_table(result.rows),
    )


def _uri(store: Place | None) -> str:
    return os.fspath(store or "") or os.environ.get("ADVFEAT_STORE") or DEFAULT_STORE


def _writable(store: Place | None) -> Store:
    place = Store(_uri(store))
    place.check_writable()
    return place


def _check_positive(name: str, value: float | None, least: int) -> None:
    if value is not None and not value >= least:
        raise InputError(name, value, f"is less than {least}", "give more, or leave it out")


def _assignments(settings: Mapping[str, Any] | None) -> list[str]:
    """Write settings as ``--set`` takes them; raises ``InputError`` for a value that is no plain one."""
    if settings is not None and not isinstance(settings, Mapping):
        raise InputError("settings", settings, "is not a dictionary", 'give for example {"attack.eps": 1.0}')
    found = []
    for name, value in (settings or {}).items():
        try:
            found.append(f"{name}={json.dumps(value, default=_plain, ensure_ascii=False)}")
        except (TypeError, ValueError):
            remedy = "give numbers, texts, lists or dictionaries of them"
            raise InputError(name, value, "is not a plain value", remedy) from None
    return found


def _plain(value: Any) -> Any:
    """Return the plain value of a NumPy scalar or array, a range, a fraction, a path, or a pydantic model."""
    for method in ("tolist", "model_dump"):
        if hasattr(value, method):
            return getattr(value, method)()
    if isinstance(value, range):
        return list(value)
    if isinstance(value, Fraction | Decimal):
        return float(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(type(value).__name__)


_RUNNING = threading.Lock()
_SET_BY_RUNS = (
    *("PREFECT_", "RAY_", "PYTHONWARNINGS", "PYTHONBREAKPOINT", "DO_NOT_TRACK"),
    *("HOME", "USER"),
)


def _computed(compute: Callable[[], Answer], ray: str | None, *, is_quiet: bool) -> Answer:
    """Return what a run computes; variables that it sets are then as they were.

    Where an event loop runs in this thread, as in a notebook, Prefect would take the flow for a part of it:
    there the run has a thread of its own, and an interrupt of this one reaches it. Raises ``InputError``
    while another run goes on in this process: there is one Ray in each.
    """
    if not _RUNNING.acquire(blocking=False):
        remedy = "wait for it, or start this one in a process of its own"
        raise InputError("run", "this one", "cannot start while another is active in this process", remedy)
    before = _variables()
    try:
        settle()
        if ray is not None:
            os.environ["RAY_ADDRESS"] = ray
        with lines.quiet(is_quiet):
            return _in_thread_of_its_own(compute) if _in_event_loop() else compute()
    finally:
        for name in _variables().keys() - before.keys():
            del os.environ[name]
        os.environ |= before
        _RUNNING.release()


def _variables() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_SET_BY_RUNS) or is_about_proxies(name)
    }


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_thread_of_its_own(compute: Callable[[], Answer]) -> Answer:
    thread, answer = begun(compute, name="advfeat-run", daemon=False)
    try:
        return answer.result()
    except KeyboardInterrupt:
        assert thread.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt)
        )
        thread.join()
        raise
