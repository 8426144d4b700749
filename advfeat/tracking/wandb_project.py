"""Tells Weights & Biases of runs: a group a run, in it one of theirs a row; offline where that is set."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from advfeat.cluster.answers import check_answers_http
from advfeat.tracking.finished import FinishedRow, FinishedRun, has_report

if TYPE_CHECKING:
    from wandb import Settings


class WandbProject:
    """A project, ``PROJECT`` or ``ENTITY/PROJECT``, on the server that W&B is set to use."""

    remedy = "correct that, or set WANDB_MODE=offline"

    def __init__(self, project: str) -> None:
        entity, _, self._project = project.rpartition("/")
        self._entity = entity or None

    def check(self) -> None:
        """Look for a folder that can be written, and online for a key that the server takes.

        Raises ``ValueError``, ``OSError``, or what W&B raises.
        """
        import wandb

        self._settings()
        settings = wandb.setup().settings
        if settings.mode == "disabled":
            raise ValueError("W&B is switched off: WANDB_MODE is disabled")
        # W&B itself would write to a folder for temporary files instead.
        with tempfile.TemporaryFile(dir=_folder()):
            pass
        if settings.mode == "online":
            # W&B's service, told to end while a request of it waits, may not end: nor would this program.
            check_answers_http(settings.base_url)
            if not wandb.login(prompt=False, verify=True):
                raise ValueError("no key is known: set WANDB_API_KEY, or WANDB_MODE=offline")

    def tell(self, run: FinishedRun) -> int:
        """Tell of each row that was not sent from this folder yet; return how many those were.

        What was written offline is written anew. Online, W&B finds a row by its name again: what it has of a
        curve it keeps.
        """
        new = 0
        for number, row in enumerate(run.rows):
            name = f"{run.run[:36]}-{number}"
            if not _was_sent(name):
                self._tell_row(name, run, row, with_report=has_report(run, number))
                new += 1
        return new

    def _tell_row(self, name: str, run: FinishedRun, row: FinishedRow, *, with_report: bool) -> None:
        import wandb

        for earlier in _folder().glob(f"offline-run-*-{name}"):
            shutil.rmtree(earlier)
        told = wandb.init(
            entity=self._entity,
            project=self._project,
            id=name,
            name=row.name,
            group=f"{run.title} {run.run[:12]}",
            notes=row.summary,
            config=row.parameters | {f"advfeat.{place}": where for place, where in row.places.items()},
            resume="allow",
            reinit="create_new",  # the user's own run of this process goes on
            settings=self._settings(),
        )
        try:
            epochs = sorted({epoch for curve in row.curves.values() for epoch, _ in curve})
            by_name = {curve: dict(values) for curve, values in row.curves.items()}
            for epoch in epochs:
                told.log({curve: of[epoch] for curve, of in by_name.items() if epoch in of}, step=epoch)
            told.summary.update(row.figures)
            if with_report:
                artifact = wandb.Artifact(f"report-{run.report[:12]}", type="report")
                with artifact.new_file("report.html", mode="wb") as file:
                    file.write(run.page)
                told.log_artifact(artifact)
        except BaseException:
            told.finish(exit_code=1)
            raise
        told.finish()

    def _settings(self) -> "Settings":
        """Return settings by which W&B is told of the row alone: no machine, no code, no output."""
        import wandb

        return wandb.Settings(
            project=self._project,
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            host="",
            save_code=False,
            silent=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )


def _folder() -> Path:
    """Return where W&B keeps what it writes on this machine."""
    folder = Path(os.environ.get("WANDB_DIR") or ".") / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _was_sent(name: str) -> bool:
    """Tell whether ``wandb sync`` sent what was written offline; it leaves a file that says so."""
    return any(_folder().glob(f"offline-run-*-{name}/*.synced"))
