"""Notes in the store what becomes of a run, for ``advfeat runs``."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from prefect.runtime import flow_run

from advfeat.errors import RunCancelledError
from advfeat.runs import RunRecord, RunState, StageCounts, keep_record
from advfeat.store import Store
from flows.patience import patiently


class Recording:
    """What is known of a run so far."""

    def __init__(self, record: RunRecord) -> None:
        self.record = record
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the run began, to a tenth."""
        return round(time.monotonic() - self._began, 1)

    def results(self, report: str, total: int, computed: int) -> None:
        """Note the report's digest, and how many stages there were and were computed."""
        counts = StageCounts(total=total, computed=computed, cached=total - computed)
        self.record = self.record.model_copy(update={"report": report, "stages": counts})

    def ended(self, state: RunState) -> RunRecord:
        """Return the record of the run, which ends now."""
        return self.record.model_copy(update={"state": state, "seconds": self.seconds})


@contextmanager
def recorded(store: Store, flow: str, title: str) -> Iterator[Recording]:
    """Keep a record of this flow run: that it began, and how it ended."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    run = str(flow_run.get_id())
    recording = Recording(RunRecord(run=run, flow=flow, title=title, state="running", began=now))
    patiently(lambda: keep_record(store, recording.record))
    try:
        yield recording
    except BaseException as error:
        with suppress(Exception):  # why the run ended matters more than this note of it
            keep_record(store, recording.ended(_state_after(error)))
        raise
    patiently(lambda: keep_record(store, recording.ended("completed")))


def _state_after(error: BaseException) -> RunState:
    if isinstance(error, RunCancelledError):
        return "cancelled"
    return "failed" if isinstance(error, Exception) else "interrupted"
