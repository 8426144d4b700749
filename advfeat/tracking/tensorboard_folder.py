"""Tells TensorBoard of runs: a folder a run, and in it one a row with curves, figures and parameters."""

import json
import re
import tempfile
from pathlib import Path

from advfeat.files.place import local_path
from advfeat.tracking.finished import FinishedRow, FinishedRun

_NOT_IN_NAMES = re.compile(r"[^\w.,=+ -]")
_MOST_LETTERS = 60
_EVENTS = "events.out.tfevents.*"
_DONE = "advfeat.json"
"""Names the row that a folder holds, once all of it is there."""


class TensorBoardFolder:
    """A folder that ``tensorboard --logdir`` shows."""

    remedy = "name a folder that you may write to"

    def __init__(self, folder: str) -> None:
        self._named = folder

    def check(self) -> None:
        """Make the folder, and try to write into it; raises ``ValueError`` or ``OSError``."""
        folder = local_path(self._named)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass

    def tell(self, run: FinishedRun) -> int:
        """Tell of each row that is not there yet; return how many those were."""
        of_run = local_path(self._named) / f"{_file_name(run.title)} {run.run[:12]}"
        new = 0
        for number, row in enumerate(run.rows, start=1):
            folder = of_run / f"{number} {_file_name(row.name)}"
            if not (folder / _DONE).exists():
                _tell_row(folder, run, row)
                new += 1
        return new


def _tell_row(folder: Path, run: FinishedRun, row: FinishedRow) -> None:
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    folder.mkdir(parents=True, exist_ok=True)
    for broken_off in folder.glob(_EVENTS):
        broken_off.unlink()
    with SummaryWriter(str(folder)) as writer:
        # SummaryWriter.add_hparams would show them as a run of their own.
        for summary in hparams(row.parameters, row.figures):
            writer.file_writer.add_summary(summary)
        for name, value in row.figures.items():
            writer.add_scalar(name, value, 0)
        for name, curve in row.curves.items():
            for epoch, value in curve:
                writer.add_scalar(name, value, epoch)
        places = {"run": run.run, "learned from": row.summary, **row.places}
        writer.add_text("places", "\n".join(f"- {what}: `{where}`" for what, where in places.items()), 0)
    (folder / _DONE).write_text(json.dumps({"row": row.key}), encoding="utf-8")


def _file_name(name: str) -> str:
    """Return what of a name a file can have everywhere, and TensorBoard shows."""
    return _NOT_IN_NAMES.sub("_", name)[:_MOST_LETTERS].strip(" .") or "_"
