"""Which artifacts the runs of a store use."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from advfeat.storage import Store
from advfeat.storage.runs import RunRecord, read_plan, records_in
from advfeat.upkeep.inventory import StoredObject
from advfeat.upkeep.stock import Known

SIGN_OF_LIFE = timedelta(minutes=15)
"""A run whose record is older was killed; it is written again every minute, and a store may be away."""


@dataclass(frozen=True)
class KnownRun:
    """A run and when its record was written, by the store's clock: when it ended, if it did."""

    record: RunRecord
    written: datetime

    def is_alive(self, now: datetime) -> bool:
        """Whether the run goes on, as far as its record tells."""
        return self.record.state == "running" and now - self.written < SIGN_OF_LIFE


def read_runs(store: Store, records: Mapping[str, StoredObject]) -> list[KnownRun]:
    """Read the runs with these records; an unreadable record counts as a run that failed."""
    read = records_in(store, [file.path for file in records.values()])
    known = [
        KnownRun(read[file.path] or _unreadable(run), file.modified)
        for run, file in records.items()
        if file.path in read
    ]
    return sorted(known, key=lambda run: (run.written, run.record.run))


def _unreadable(run: str) -> RunRecord:
    return RunRecord(run=run, flow="", title="(unreadable record)", state="failed", began="")


def digests_used(
    store: Store, record: RunRecord, manifests: Mapping[str, Known | None]
) -> frozenset[str] | None:
    """Return the digests of what a run uses; None if nothing tells, so that it may be anything.

    A completed run uses its report and all that the report was made from, input by input. Shards are no
    inputs: once they are joined they are not needed. Any other run uses all of its plan and what that
    reads, and so does one of whose artifacts a manifest is lost or damaged, as that does not tell its inputs.
    ``manifests`` holds all that are in the store, None for unreadable ones.
    """
    reached = closure([record.report] if record.report else [], manifests)
    if record.state == "completed" and reached and all(manifests.get(digest) for digest in reached):
        return reached
    plan = read_plan(store, record.run)
    if plan is None:
        return None
    # What a stage reads may be of another run, such as the model of another user that it starts from.
    return reached | closure((digest for stage in plan for digest in (stage.digest, *stage.needs)), manifests)


def closure(roots: Iterable[str], manifests: Mapping[str, Known | None]) -> frozenset[str]:
    """Return these digests and, as far as manifests tell, all that they were made from."""
    reached: set[str] = set()
    pending = list(roots)
    while pending:
        digest = pending.pop()
        if digest in reached:
            continue
        reached.add(digest)
        manifest = manifests.get(digest)
        if manifest is not None:
            pending += manifest.inputs
    return frozenset(reached)
