"""Finished files on their way into a store while the next ones are written."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType

from advfeat.files.parts import PARTS_AHEAD
from advfeat.storage.manifest import StoredFile


class Uploads:
    """Uploads files side by side, deletes them, and never has more than ``PARTS_AHEAD`` under way.

    Files that the store holds already, of another artifact, are taken over side by side as well.
    """

    def __init__(
        self, upload: Callable[[Path], StoredFile], take_over: Callable[[str, StoredFile, str], StoredFile]
    ) -> None:
        self._upload, self._take_over = upload, take_over
        self._pool = ThreadPoolExecutor(PARTS_AHEAD)
        self._pending: deque[Future[StoredFile]] = deque()
        self._done: list[StoredFile] = []

    def __enter__(self) -> "Uploads":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, file: Path) -> None:
        """Take a finished file away; waits while too many are under way, and raises what went wrong there."""
        self._begin(partial(self._upload_and_delete, file))

    def take_over(self, digest: str, file: StoredFile, name: str) -> None:
        """Take over a file of another artifact, under a name of its own; waits and raises as ``add``."""
        self._begin(partial(self._take_over, digest, file, name))

    def finish(self) -> list[StoredFile]:
        """Wait until all files are uploaded and return what was stored; raises what went wrong."""
        while self._pending:
            self._done.append(self._pending.popleft().result())
        return self._done

    def _begin(self, work: Callable[[], StoredFile]) -> None:
        while len(self._pending) >= PARTS_AHEAD:
            self._done.append(self._pending.popleft().result())
        self._pending.append(self._pool.submit(work))

    def _upload_and_delete(self, file: Path) -> StoredFile:
        stored = self._upload(file)
        file.unlink()
        return stored
