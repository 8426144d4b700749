"""A run whose every stage is in the store: its result is read there.

It needs neither Prefect nor Ray, whose start takes most of such a run's time: a server that ends with the
run shows it to nobody. What remains of a run, its record, is written as that of any other.
"""

from collections.abc import Iterable
from uuid import uuid4

from advfeat.flows.display.lines import say
from advfeat.flows.result import RunResult
from advfeat.flows.walk.recording import recorded
from advfeat.flows.whose import this_user
from advfeat.storage import Stage, Store


def from_store(
    flow: str,
    title: str,
    stages: Iterable[Stage],
    report: Stage,
    store: Store,
    *,
    note: str | None,
    changed: str = "",
) -> RunResult:
    """Return what a run of ``flow`` finds whose stages are all cached; raises what reading them raises."""
    stages = list(stages)
    run, user = str(uuid4()), this_user()
    with recorded(store, flow, title, stages, run=run, user=user, note=note, changed=changed) as recording:
        say(f"{title}: {len(stages)} stages, all in the store")
        recording.results(report.digest, total=len(stages), computed=0)
        return RunResult.of(recording.ended("completed"), store)
