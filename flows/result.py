"""What a run returns, in the flow, in the Prefect API and from ``advfeat run --json``."""

from pydantic import BaseModel, ConfigDict

from advfeat.report.rows import Row


class StageCounts(BaseModel):
    """How many stages the plan has, and what became of them."""

    model_config = ConfigDict(frozen=True)

    total: int
    computed: int
    cached: int


class RunResult(BaseModel):
    """Rows and report of a finished run."""

    model_config = ConfigDict(frozen=True)

    run: str
    seconds: float
    rows: tuple[Row, ...]
    stages: StageCounts
    report: str
    store: str
