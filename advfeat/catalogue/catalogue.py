"""A store as a library reads it: what is there as tables, and each artifact by its digest."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from advfeat.catalogue.descriptions import Description, chosen, described
from advfeat.catalogue.run_descriptions import RunDescription, described_runs, runs_of
from advfeat.errors import InputError
from advfeat.extensions import read_function
from advfeat.storage import MODELS, Store

if TYPE_CHECKING:
    from advfeat.catalogue.rows import StoredDataset
    from advfeat.models import Normalized

_RUN_WORDS = ("recipe", "data", "seeds", "norm", "eps", "source_model", "target_model")
_RUN_COUNTS = ("stages", "computed", "cached")
_RUN_COLUMNS = ("run", "flow", "title", "state", "began", "seconds", "report")


class Catalogue:
    """What a store holds. ``str(store.uri)`` is where it lies.

    Tables are pandas DataFrames, so ``artifacts[artifacts.eps == 1.0]`` filters them; arguments do so too.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def __repr__(self) -> str:
        return f"advfeat.store({self.uri!r})"

    @property
    def uri(self) -> str:
        """Where the store lies, as an fsspec URI."""
        return self._store.uri

    def runs(self, *, recipe: str | None = None) -> pd.DataFrame:
        """Return a line a run, the last one at the end, of one recipe if it is given.

        Columns: ``run`` (its id), ``flow`` (the recipe of a grid), ``title``, ``state`` (running, completed,
        failed, cancelled, interrupted), ``began`` (UTC), ``seconds``, ``report`` (a digest); ``recipe``,
        ``data``, ``seeds``, ``norm``, ``eps`` ([0, 1] pixel units), ``source_model`` and ``target_model``, as
        texts that name all values; and ``stages``, ``computed`` and ``cached``, which count stages.
        """
        found = [_run(run) for run in runs_of(described_runs(self._store), recipe)]
        names = [*_RUN_COLUMNS, *_RUN_WORDS, *_RUN_COUNTS]
        return pd.DataFrame.from_records(found, columns=names).astype(dict.fromkeys(_RUN_COUNTS, "Int64"))

    def artifacts(self, *, stage: str | None = None, recipe: str | None = None) -> pd.DataFrame:
        """Return a line an artifact, the oldest first, of one stage and one recipe if those are given.

        Columns are the fields of ``advfeat.catalogue.descriptions.Description``: ``digest``, ``stage``,
        ``recipe``, ``seed``, ``data``, ``norm``, ``eps`` ([0, 1] pixel units), ``source_model``,
        ``target_model``, ``images`` (a count), ``test_accuracy`` and ``attack_success`` (fractions),
        ``bytes``, ``created`` (UTC) and ``uri``.
        """
        found = [entry.model_dump() for entry in chosen(described(self._store), stage, recipe)]
        table = pd.DataFrame.from_records(found, columns=list(Description.model_fields))
        return table.astype({"seed": "Int64", "images": "Int64"})

    def datasets(self, *, recipe: str | None = None) -> pd.DataFrame:
        """Return a line a data set, columns as of ``artifacts``."""
        return self.artifacts(stage="dataset", recipe=recipe)

    def load(
        self, digest: str, split: str = "train", *, network: str | None = None
    ) -> "StoredDataset | Normalized":
        """Load an artifact by its digest or enough of its start.

        A data set, or real images (``split`` train or test), comes as a ``torch.utils.data.Dataset`` of
        images float32 (C, H, W) and labels; a source or target model as the network in evaluation mode, which
        takes images float32 (N, C, H, W) in [0, 1]. One that the user's own ``network``, such as
        ``net.py:make``, made needs that file, as it was: no code is read from a store. Raises ``InputError``
        for anything else, and ``MissingArtifactError`` or ``DamagedArtifactError``.
        """
        digest = self._store.resolve(digest)
        stage = self._store.manifest(digest).stage
        if stage in MODELS:
            from advfeat.stages.model import read_model

            if network is not None:
                read_function("network", network)
            return read_model(self._store, digest)
        if stage in ("dataset", "shard", "images"):
            from advfeat.catalogue.rows import StoredDataset

            return StoredDataset(self._store, digest, split)
        problem = f"is of stage {stage}, which is neither rows nor network"
        raise InputError("digest", digest[:12], problem, "give that of a data set, of images or of a model")


def _run(run: RunDescription) -> dict[str, Any]:
    counts = run.record.stages
    return {
        **{name: getattr(run.record, name) for name in _RUN_COLUMNS},
        **{name: getattr(run, name) for name in _RUN_WORDS},
        "stages": None if counts is None else counts.total,
        "computed": None if counts is None else counts.computed,
        "cached": None if counts is None else counts.cached,
    }
