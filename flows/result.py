"""What a run returns, in the flow, in the Prefect API and from ``advfeat run --json``."""

from pydantic import BaseModel, ConfigDict

from advfeat.report.rows import Row, read_rows
from advfeat.storage import Store
from advfeat.storage.runs import RunRecord, StageCounts


class RunResult(BaseModel):
    """Rows and report of a finished run."""

    model_config = ConfigDict(frozen=True)

    run: str
    seconds: float
    rows: tuple[Row, ...]
    stages: StageCounts
    report: str
    store: str

    @classmethod
    def of(cls, record: RunRecord, store: Store) -> "RunResult":
        """Return the result of a run that has a report."""
        assert record.report is not None
        assert record.stages is not None
        assert record.seconds is not None
        return cls(
            run=record.run,
            seconds=record.seconds,
            rows=tuple(read_rows(store, record.report)),
            stages=record.stages,
            report=record.report,
            store=store.uri,
        )
