"""How long the main job takes: source model, D_rand and D_det, and both target models, one seed.

The command is the one that a user types, ``advfeat run``, in an empty folder: start of the servers,
computation, evaluation, report. The preset is the one of the data's name. The store goes with the folder.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated

from pydantic import Field

from advfeat.planning import preset_names
from advfeat.spec import DataSpec, Spec
from benchmarks.command import advfeat, assigned
from benchmarks.options import Listed
from benchmarks.table import Table, figure

_ONE_SEED = ("recipes=[d_rand,d_det]", "seeds=[0]")


class Settings(Spec):
    """What is changed of the preset."""

    changes: Annotated[tuple[str, ...], Listed] = Field(
        default=(), description="FIELD=VALUE of the experiment, as advfeat run --set takes them"
    )


QUICK = Settings(changes=("data.train_size=384", "source.epochs=1", "target.epochs=1", "attack.steps=5"))


class Figures(Spec):
    """The time of the whole command."""

    settings: Settings
    preset: str
    seconds: float | None
    """``None`` where no preset has the data's name."""

    def tables(self) -> list[Table]:
        """Return the figure as a table."""
        found = "skipped: no preset has this name" if self.seconds is None else figure(self.seconds)
        return [
            Table(
                title=f"D_rand and D_det of {self.preset}, one seed",
                columns=("", "s"),
                rows=(("advfeat run", found),),
                note="Source model, both data sets, both target models, evaluation and report, with the "
                f"start of the servers; changed: {', '.join(self.settings.changes) or 'nothing'}.",
            )
        ]


def run(settings: Settings, data: DataSpec) -> Figures:
    """Time the command, if a preset has the data's name."""
    if data.source not in preset_names():
        return Figures(settings=settings, preset=data.source, seconds=None)
    of_data = {"data.root": data.root and Path(data.root).absolute(), "data.train_size": data.train_size}
    given = [f"{field}={value}" for field, value in of_data.items() if value is not None]
    words = ["run", data.source, *assigned([*_ONE_SEED, *given, *settings.changes])]
    with tempfile.TemporaryDirectory(prefix="advfeat-job-") as folder:
        began = time.monotonic()
        advfeat(words, Path(folder))
        return Figures(settings=settings, preset=data.source, seconds=time.monotonic() - began)
