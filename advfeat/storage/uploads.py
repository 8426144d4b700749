"""Finished files on their way into a store while the next ones are written."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from advfeat.files.parts import PARTS_AHEAD
from advfeat.storage.manifest import StoredFile


class Uploads:
    """Uploads files side by side, deletes them, and never has more than ``PARTS_AHEAD`` under way."""

    def __init__(self, upload: Callable[[Path], StoredFile]) -> None:
        self._upload = upload
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
        """Take over a finished file; waits while too many are under way, and raises what went wrong there."""
        while len(self._pending) >= PARTS_AHEAD:
            self._done.append(self._pending.popleft().result())
        self._pending.append(self._pool.submit(self._upload_and_delete, file))

    def finish(self) -> list[StoredFile]:
        """Wait until all files are uploaded and return what was stored; raises what went wrong."""
        while self._pending:
            self._done.append(self._pending.popleft().result())
        return self._done

    def _upload_and_delete(self, file: Path) -> StoredFile:
        stored = self._upload(file)
        file.unlink()
        return stored
