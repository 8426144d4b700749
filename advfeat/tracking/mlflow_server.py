"""Tells MLflow of runs: an experiment of the run's title, and in it one run a row."""

import posixpath
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from advfeat.tracking.finished import FinishedRow, FinishedRun, has_report

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_KEY = "advfeat.row"
"""The tag by which a row is found again."""
_MOST_AT_ONCE = 100
"""Parameters, tags or figures in a request."""
_NOT_IN_NAMES = re.compile(r"[^\w.\- :]", re.ASCII)


class MLflowServer:
    """A tracking server, or a database, by its URI."""

    remedy = "start the server, or name another URI"

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def check(self) -> None:
        """Ask it something; raises what the client raises."""
        self._client().search_experiments(max_results=1)

    def tell(self, run: FinishedRun) -> int:
        """Tell of each row that is not there yet; return how many those were."""
        client = self._client()
        found = client.get_experiment_by_name(run.title)
        if found is not None and found.lifecycle_stage != "active":
            raise ValueError(f"its experiment {run.title!r} was deleted: restore it, or delete it for good")
        experiment = client.create_experiment(run.title) if found is None else found.experiment_id
        new = 0
        for number, row in enumerate(run.rows):
            there = client.search_runs([experiment], f"tags.`{_KEY}` = '{row.key}'")
            if any(earlier.info.status == "FINISHED" for earlier in there):
                continue
            for broken_off in there:
                client.delete_run(broken_off.info.run_id)
            self._tell_row(client, experiment, run, row, has_report(run, number))
            new += 1
        return new

    def _tell_row(
        self, client: "MlflowClient", experiment: str, run: FinishedRun, row: FinishedRow, with_report: bool
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        began = round(1000 * (time.time() if run.began is None else run.began.timestamp()))
        tags = {_KEY: row.key, "advfeat.run": run.run, "mlflow.note.content": row.summary}
        made = client.create_run(experiment, began, tags | {"mlflow.source.name": "advfeat"}, row.name)
        name = made.info.run_id
        metrics = [
            *(Metric(metric, value, began, 0) for metric, value in _named(row.figures.items())),
            *(
                Metric(metric, value, began, epoch)
                for metric, curve in _named(row.curves.items())
                for epoch, value in curve
            ),
        ]
        for some in _in_pieces(metrics):
            client.log_batch(name, metrics=some)
        for some in _in_pieces([Param(name, str(value)) for name, value in row.parameters.items()]):
            client.log_batch(name, params=some)
        for some in _in_pieces([RunTag(f"advfeat.{place}", value) for place, value in row.places.items()]):
            client.log_batch(name, tags=some)
        if with_report:
            client.log_text(name, run.page.decode(), "report.html")
        client.set_terminated(name, "FINISHED")

    def _client(self) -> "MlflowClient":
        from mlflow.tracking import MlflowClient

        return MlflowClient(self._uri, self._uri)


def _in_pieces(entries: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (entries[first : first + _MOST_AT_ONCE] for first in range(0, len(entries), _MOST_AT_ONCE))


def _named(entries: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield entries under names that MLflow takes, each its own."""
    taken: set[str] = set()
    for name, value in entries:
        section, slash, own = name.partition("/")
        plain = f"{section}{slash}{_NOT_IN_NAMES.sub('_', own)}"
        if posixpath.normpath(plain) != plain:  # a figure named .
            plain = f"{section}/_"
        while plain in taken:
            plain += "_"
        taken.add(plain)
        yield plain, value
