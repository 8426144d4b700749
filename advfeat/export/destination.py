"""Where an export goes: a new folder on disk, or an empty prefix of any fsspec file system."""

import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from advfeat.errors import InputError, explained, first_line
from advfeat.files.place import Named, place_of

HandOver = Callable[[], None]
"""Called when the files that are in the folder are complete."""


class Destination:
    """An empty place that an export fills, whole or not at all.

    On disk a folder appears in one step. Elsewhere files arrive one after the other, those that were handed
    over last at the end, and are taken away again if the export fails.
    """

    def __init__(self, named: Named, beside: Collection[str] = ()) -> None:
        """Look at a path or an fsspec URI; raises ``InputError`` if it is no usable, empty place.

        Files ``beside`` it, say README.md, are written to the folder too, and come to lie at PLACE.README.md.
        """
        self._refused = partial(_refused, str(named))
        with explained(self._refused, "is not a usable URI"):
            place = place_of(named)
        self.uri, self._fs, self._root, self._is_local = place.uri, place.fs, place.root, place.is_local
        self.name = self._root.rpartition("/")[2]
        self._beside = beside
        if beside and "/" not in self._root:
            raise self._refused("is a whole bucket, which leaves no place for the card next to it")
        with explained(self._refused):
            self._fs.invalidate_cache()
            occupied = self._is_occupied()
            taken = [at for name in beside if self._fs.exists(at := self._target(name))]
        if occupied:
            raise self._refused("is not empty")
        if taken:
            raise self._refused(f"has the card of another export next to it, {taken[0].rpartition('/')[2]}")
        if self._is_local and Path(self._root).is_mount():
            raise self._refused("is where a file system is mounted; no finished folder can take its place")
        with explained(self._refused, "cannot be written"):
            self._try_writing()

    @contextmanager
    def filled(self) -> Iterator[tuple[Path, HandOver]]:
        """Give a local folder to write files to, and what to call when those in it are complete."""
        with self._filled_on_disk() if self._is_local else self._filled_elsewhere() as given:
            yield given

    @contextmanager
    def _filled_on_disk(self) -> Iterator[tuple[Path, HandOver]]:
        target = Path(self._root)
        partial = target.parent / f".{uuid.uuid4().hex}"
        partial.mkdir(parents=True)
        try:
            yield partial, lambda: None
            partial.replace(target)
            for name in self._beside:
                (target / name).replace(self._target(name))
        except OSError as error:
            raise self._refused(f"cannot be filled ({first_line(error)})") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    @contextmanager
    def _filled_elsewhere(self) -> Iterator[tuple[Path, HandOver]]:
        with tempfile.TemporaryDirectory(prefix="advfeat-") as name:
            folder = Path(name)

            def hand_over() -> None:
                files = [path for path in folder.rglob("*") if path.is_file()]
                targets = [self._target(path.relative_to(folder).as_posix()) for path in files]
                with explained(self._refused, "cannot be written"):
                    self._fs.put(list(map(str, files)), targets)
                for path in files:
                    path.unlink()

            try:
                yield folder, hand_over
            except BaseException:
                with suppress(Exception):  # what went wrong first is told, not that nothing can be deleted
                    cards = filter(self._fs.exists, map(self._target, self._beside))
                    for path in [*self._fs.find(self._root), *cards]:  # rm would take a place for a pattern
                        self._fs.rm_file(path)
                raise

    def _target(self, name: str) -> str:
        """Return where a file of the folder comes to lie."""
        return f"{self._root}{'.' if name in self._beside else '/'}{name}"

    def _is_occupied(self) -> bool:
        if self._is_local:
            place = Path(self._root)
            return place.is_file() or (place.is_dir() and any(place.iterdir()))
        with suppress(FileNotFoundError):
            # Some stores keep directories of what was deleted: it is files that count.
            walk = self._fs.walk(self._root, on_error="raise")
            return any(name for _, _, files in walk for name in files)
        return False

    def _try_writing(self) -> None:
        if self._is_local:
            Path(self._root).parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=Path(self._root).parent).close()
            return
        probe = f"{self._root}/.probe-{uuid.uuid4().hex}"
        self._fs.pipe_file(probe, b"advfeat")
        self._fs.rm_file(probe)


def _refused(uri: str, problem: str) -> InputError:
    return InputError(
        "destination", uri, problem, "give a new folder, or s3://bucket/prefix, that you may write to"
    )
