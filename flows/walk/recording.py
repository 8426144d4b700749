"""Notes in the store what a run needs and what becomes of it, for ``advfeat runs`` and ``advfeat gc``."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from advfeat.errors import RunCancelledError
from advfeat.flows.display.lines import say
from advfeat.flows.walk.patience import patiently
from advfeat.flows.walk.ray_cluster import is_connected
from advfeat.storage import Stage, Store
from advfeat.storage.runs import RunRecord, RunState, StageCounts, keep_plan, keep_record
from advfeat.upkeep.garbage import wait_while_collected

_SECONDS_BETWEEN_SIGNS_OF_LIFE = 60.0


class Recording:
    """What is known of a run so far."""

    def __init__(self, store: Store, record: RunRecord, stages: Iterable[Stage]) -> None:
        self.record = record
        self._store = store
        self._stages: dict[str, Stage] = {}
        self._began = time.monotonic()
        self.needs(stages)

    @property
    def seconds(self) -> float:
        """Seconds since the run began, to a tenth."""
        return round(time.monotonic() - self._began, 1)

    def needs(self, stages: Iterable[Stage]) -> None:
        """Note stages of the run, besides those noted before; from now on nobody deletes their artifacts."""
        self._stages |= {stage.digest: stage for stage in stages}
        patiently(lambda: keep_plan(self._store, self.record.run, self._stages.values()))

    def results(self, report: str, total: int, computed: int) -> None:
        """Note the report's digest, and how many stages there were and were computed."""
        counts = StageCounts(total=total, computed=computed, cached=total - computed)
        self.record = self.record.model_copy(update={"report": report, "stages": counts})

    def ended(self, state: RunState) -> RunRecord:
        """Return the record of the run, which ends now."""
        return self.record.model_copy(update={"state": state, "seconds": self.seconds})


@contextmanager
def recorded(
    store: Store,
    flow: str,
    title: str,
    stages: Iterable[Stage],
    *,
    run: str,
    user: str = "",
    note: str | None = None,
    changed: str = "",
) -> Iterator[Recording]:
    """Keep a record of a run: which stages it needs, that it goes on, and how it ended.

    ``run`` is its id, ``user`` whose it is, ``note`` what that user says of it, ``changed``
    what differs from its preset. What the store holds of the stages is looked up inside: only there nobody
    deletes it.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = RunRecord(
        run=run,
        flow=flow,
        title=title,
        user=user,
        note=note or "",
        changed=changed,
        state="running",
        began=now,
    )
    recording = Recording(store, record, stages)
    patiently(lambda: keep_record(store, record))
    patiently(lambda: wait_while_collected(store, tell=say))
    try:
        with _signs_of_life(store, record):
            yield recording
    except BaseException as error:
        state = _state_after(error)
        with suppress(Exception):  # why the run ended matters more than this note of it
            _count(flow, state)
            keep_record(store, recording.ended(state))
        raise
    _count(flow, "completed")
    patiently(lambda: keep_record(store, recording.ended("completed")))


def _count(flow: str, state: RunState) -> None:
    if is_connected():
        from advfeat.cluster.metrics import count_run

        count_run(flow, state)


@contextmanager
def _signs_of_life(store: Store, record: RunRecord) -> Iterator[None]:
    """Write the record of a running run again and again, so that its age tells that the run goes on."""
    ended = threading.Event()

    def give() -> None:
        while not ended.wait(_SECONDS_BETWEEN_SIGNS_OF_LIFE):
            with suppress(Exception):  # a store that is away for a moment gets the next one
                keep_record(store, record)

    thread = threading.Thread(target=give, daemon=True, name="signs-of-life")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _state_after(error: BaseException) -> RunState:
    # A worker ends the process of a run that was cancelled, often before the run asked whether it was.
    if isinstance(error, RunCancelledError) or _ended_by_a_worker(error):
        return "cancelled"
    return "failed" if isinstance(error, Exception) else "interrupted"


def _ended_by_a_worker(error: BaseException) -> bool:
    if "prefect" not in sys.modules:  # nothing of it runs here
        return False
    from prefect.exceptions import TerminationSignal

    from advfeat.flows.walk.cancelling import is_cancelled

    return isinstance(error, TerminationSignal) and is_cancelled()
