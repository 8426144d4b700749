"""Where a stage's training keeps its state, so that it goes on where it was after whatever ended it."""

import contextlib

from advfeat.errors import DamagedArtifactError
from advfeat.storage import Store

_MOST_BYTES = 16 << 30


class StageCheckpoint:
    """The state of one stage's training in the store; gone once the stage's artifact is there."""

    seconds_between: float = 60

    def __init__(self, store: Store, digest: str) -> None:
        self._store = store
        self._path = f"{store.checkpoints}/{digest}"

    def load(self) -> bytes | None:
        """Return the state that was kept last; None if there is none."""
        with contextlib.suppress(FileNotFoundError, DamagedArtifactError):
            return self._store.get(self._path, _MOST_BYTES)
        return None

    def save(self, content: bytes) -> None:
        """Keep a state instead of the one before."""
        self._store.put(self._path, content)

    def delete(self) -> None:
        """Forget the state."""
        with contextlib.suppress(FileNotFoundError):
            self._store.fs.rm_file(self._path)
