"""Where runs are told to: ``mlflow:URI``, ``wandb:PROJECT`` or ``tensorboard:FOLDER``."""

import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from advfeat.cluster.environment import asking_loopback_directly, become
from advfeat.errors import AdvfeatError, InputError, TrackingError, explained, extra_missing
from advfeat.storage import Store
from advfeat.tracking.finished import FinishedRun, finished_run
from advfeat.tracking.mlflow_server import MLflowServer
from advfeat.tracking.tensorboard_folder import TensorBoardFolder
from advfeat.tracking.wandb_project import WandbProject

_FORMS = "mlflow:URI, wandb:PROJECT or tensorboard:FOLDER"
_CREDENTIALS = re.compile(r"(?<=//)[^/@]*(?=@)")
_ALONE = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
}
"""By which the tools' libraries tell their makers nothing, and print nothing."""
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""Else a server that is gone would be waited for over minutes; the user's own values come first."""


class Tool(Protocol):
    """One of other people's tools, at one place."""

    remedy: str
    """What helps where the place cannot be used."""

    def check(self) -> None:
        """Raise what is wrong with the place, in any library's words."""

    def tell(self, run: FinishedRun) -> int:
        """Tell of each row that is not there yet; return how many those were."""


_TOOLS: dict[str, Callable[[str], Tool]] = {
    "mlflow": MLflowServer,
    "wandb": WandbProject,
    "tensorboard": TensorBoardFolder,
}
"""By the names of their packages, which are those of the extras too."""


class Told(BaseModel):
    """What came of telling: how many rows the run has, and how many the tool had not been told before."""

    model_config = ConfigDict(frozen=True)

    run: str
    title: str
    target: str
    rows: int
    new: int


class Target:
    """A tool and its place, which was found to answer."""

    def __init__(self, named: str) -> None:
        """Look at ``KIND:PLACE``; raises ``InputError`` if nothing can be told there."""
        kind, _, place = named.partition(":")
        self.shown = _CREDENTIALS.sub("…", named)
        refused = partial(InputError, "track", self.shown)
        if kind not in _TOOLS or not place:
            raise refused("does not name a tool and a place", f"give {_FORMS}")
        if (
            package := find_spec(kind)
        ) is None or package.origin is None:  # a folder of that name is no package
            raise extra_missing("track", self.shown, kind)
        self._tool = _TOOLS[kind](place)

        def unusable(problem: str) -> AdvfeatError:
            return refused(_CREDENTIALS.sub("…", problem), self._tool.remedy)

        with (
            explained(unusable, "cannot be used"),
            _nobody_else_told(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT="10"),
        ):
            self._tool.check()

    def tell(self, store: Store, name: str) -> Told:
        """Tell of the run that the start of its id, or of its report's digest, names.

        What was told before is not told again. Raises ``InputError`` for a name of no run, and
        ``TrackingError`` where the tool fails.
        """
        run = finished_run(store, name)
        words = ("advfeat", "track", run.run[:12], "--store", store.uri, "--to", self.shown)
        repeat = f"repeat with: {shlex.join(words)}"

        def failed(problem: str) -> AdvfeatError:
            return TrackingError(f"{self.shown} {_CREDENTIALS.sub('…', problem)}; the run is kept, {repeat}")

        with explained(failed, "could not log the run"), _nobody_else_told():
            new = self._tool.tell(run)
        return Told(run=run.run, title=run.title, target=self.shown, rows=len(run.rows), new=new)


@contextmanager
def _nobody_else_told(**further: str) -> Iterator[None]:
    """Let the tools' libraries meanwhile ask the named place alone, and this machine through no proxy."""
    before = dict(os.environ)
    become(_PATIENCE | asking_loopback_directly(before) | _ALONE | further)
    try:
        yield
    finally:
        become(before)
