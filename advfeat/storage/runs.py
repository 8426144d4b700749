"""What a store knows of the runs that used it: a small record each and the stages of its plan.

They need no Prefect server to be read: whichever server a run belonged to, its results are here. The
plan says which artifacts a run needs, and how each of them is computed.
"""

import contextlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError

from advfeat.errors import DamagedArtifactError, InputError
from advfeat.storage.manifest import PlainName, Sha256, Time
from advfeat.storage.stage import Stage
from advfeat.storage.store import Store

RunState = Literal["running", "completed", "failed", "cancelled", "interrupted"]
_STAGES = TypeAdapter(tuple[Stage, ...])

LONGEST_NOTE = 500
"""Characters."""

_MOST_RECORD_BYTES = 1 << 20
_MOST_PLAN_BYTES = 256 << 20
_PARALLEL_READS = 16


def _printable(text: str) -> str:
    """Return a text without the control characters that a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text)


Line = Annotated[str, AfterValidator(_printable)]


class StageCounts(BaseModel):
    """How many stages the plan has, and what became of them."""

    model_config = ConfigDict(frozen=True)

    total: int
    computed: int
    cached: int


class RunRecord(BaseModel):
    """One flow run; ``report`` is a digest.

    ``user`` is whose it is, empty where nothing tells, ``note`` what its user said of it, ``changed`` names
    the settings that are not those of its preset.
    While it goes on its record is written again every minute. One that was killed stays ``running``, and
    its record grows old.
    """

    model_config = ConfigDict(frozen=True)

    run: PlainName
    flow: Line
    title: Line
    user: Line = ""
    note: Line = ""
    changed: Line = ""
    state: RunState
    began: Time
    seconds: float | None = None
    stages: StageCounts | None = None
    report: Sha256 | None = None


def keep_record(store: Store, record: RunRecord) -> None:
    """Write the record of a run, in place of an earlier one."""
    store.put(record_path(store, record.run), record.model_dump_json().encode())


def read_records(store: Store, newest: int | None = None) -> list[RunRecord]:
    """Read the records of all runs, or of those written last, the oldest first.

    What is no record is left out.
    """
    paths = _files_of_runs(store, "runs") if newest is None else store.place.newest("runs", newest)
    return _in_order(records_in(store, filter(_is_json, paths)))


def records_beginning(store: Store, start: str) -> list[RunRecord]:
    """Read the records of the runs whose ids begin so, the oldest first; S3 is asked for no others."""
    paths = (info["name"] for info in store.place.listed(f"{store.root}/runs", start))
    return _in_order(records_in(store, filter(_is_json, paths)))


def _in_order(read: Mapping[str, RunRecord | None]) -> list[RunRecord]:
    return sorted(filter(None, read.values()), key=lambda record: (record.began, record.run))


def records_in(store: Store, paths: Iterable[str]) -> dict[str, RunRecord | None]:
    """Read these files side by side; None is what is no record, left out what is gone by now."""

    def record_at(path: str) -> RunRecord | None:
        with contextlib.suppress(ValidationError, DamagedArtifactError):
            return RunRecord.model_validate_json(store.get(path, _MOST_RECORD_BYTES))
        return None

    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        reading = {path: pool.submit(record_at, path) for path in paths}
    read: dict[str, RunRecord | None] = {}
    for path, record in reading.items():
        with contextlib.suppress(FileNotFoundError):
            read[path] = record.result()
    return read


def keep_plan(store: Store, run: str, stages: Iterable[Stage]) -> None:
    """Write which stages a run needs, in place of what was written earlier."""
    content = _STAGES.dump_json(tuple(stages), exclude_defaults=True, exclude={"__all__": {"code"}})
    store.put(plan_path(store, run), content)


def read_plan(store: Store, run: str, most_bytes: int = _MOST_PLAN_BYTES) -> tuple[Stage, ...] | None:
    """Read which stages a run needs; None if nothing readable, and no larger, says so."""
    with contextlib.suppress(FileNotFoundError, DamagedArtifactError, ValueError):
        stages = _STAGES.validate_json(store.get(plan_path(store, run), most_bytes))
        if all(stage.digest for stage in stages):  # of parameters that are no JSON it raises ValueError
            return stages
    return None


def planned_stages(store: Store) -> dict[str, Stage]:
    """Read the stages of all runs that the store knows, by digest, without code of the user's own.

    What lies in a store is never run: who computes such a stage again has to have that code.
    """
    stages: dict[str, Stage] = {}
    for path in _files_of_runs(store, "plans"):
        run = path.rpartition("/")[2].removesuffix(".json")
        for stage in read_plan(store, run) or ():
            stages[stage.digest] = stage.model_copy(update={"code": ()})
    return stages


def report_named(store: Store, name: str) -> str:
    """Return the digest of the report that the start of a run's id, or of a digest, names.

    Raises ``InputError`` if it names none, or several.
    """
    runs = [record for record in records_beginning(store, name) if record.run.startswith(name)]
    digests = store.digests(name)
    if len(runs) + len(digests) != 1:
        found = f"fits {len(runs)} runs and {len(digests)} artifacts" if runs or digests else "names no run"
        raise InputError("run", name, f"{found} in {store.uri}", "list them with: advfeat runs")
    if digests:
        stage = store.manifest(digests[0]).stage
        if stage not in ("report", "grid_report"):
            raise InputError("run", name, f"is a {stage}, not a report", "list runs with: advfeat runs")
        return digests[0]
    if runs[0].report is None:
        raise InputError("run", name, f"has no report, it is {runs[0].state}", "list all: advfeat runs")
    return runs[0].report


def _files_of_runs(store: Store, folder: str) -> list[str]:
    return [path for path in store.place.below(folder, depth=1) if _is_json(path)]


def _is_json(path: str) -> bool:
    return path.endswith(".json")


def record_path(store: Store, run: str) -> str:
    """Return where the record of a run lies, as the store's file system names it."""
    return f"{store.root}/runs/{run}.json"


def plan_path(store: Store, run: str) -> str:
    """Return where the plan of a run lies, as the store's file system names it."""
    return f"{store.root}/plans/{run}.json"
