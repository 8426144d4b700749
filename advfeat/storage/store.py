"""Content-addressed artifacts on any fsspec URI.

Layout under the store's root::

    artifacts/<digest>/<name>-<content>.<ext>   payload: the name carries the start of its SHA-256
    artifacts/<digest>/manifest.json            written last, created exclusively
    cache/<digest>                              Prefect's cache records (JSON)
    checkpoints/<digest>                        state of a training that is not finished
    runs/<run>.json, plans/<run>.json           what a run is and which stages it needs (``runs.py``)
    collecting                                  there while garbage is taken away (``advfeat.upkeep.garbage``)

A payload name fixes its bytes and a manifest is only ever created, never replaced, so any number of
writers may race for a digest: one manifest wins, everybody reads the same bytes, and what a killed
writer left behind is invisible.
"""

import contextlib
import errno
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fsspec.implementations.memory import MemoryFileSystem

from advfeat.digest import file_sha256
from advfeat.errors import DamagedArtifactError, InputError, explained, first_line
from advfeat.storage.local_files import complete_file, create_exclusively, set_folder_aside
from advfeat.storage.manifest import ArtifactRef, Manifest, StoredFile
from advfeat.storage.readable import ReadableStore
from advfeat.storage.stage import Stage
from advfeat.storage.uploads import Uploads

_RECORDED_PACKAGES = ("advfeat", "torch", "numpy", "pyarrow", "safetensors")
_PARALLEL_WRITES = 16
_LINKED_UP_TO_SECONDS = 6 * 3600
"""Age of a file that gets a second name; garbage collection takes what nobody finished after a day."""

_SECONDS_BETWEEN_TRIES = (0.1, 0.5, 2.0)
_REMEDY_OF_READERS = (
    "to read it is enough for plan, runs, compare, report and export; for the rest ask for the right to "
    "write, or name a store of your own with --store"
)

logger = logging.getLogger(__name__)


class Store(ReadableStore):
    """A place for artifacts, addressed by an fsspec URI or a local path."""

    def write_stage(self, stage: Stage, build: Callable[[Path], dict[str, Any]]) -> ArtifactRef:
        """Compute a stage's artifact and publish it, unless the store has it already.

        ``build`` writes the payload files into an empty local folder and returns the metrics.
        A damaged artifact of the same digest stays until this one can take its place; if another
        writer publishes first, its artifact is returned.
        """
        return self.write_streamed(stage, lambda folder, _: build(folder))

    def write_streamed(
        self, stage: Stage, build: Callable[[Path, Callable[[Path], None]], dict[str, Any]]
    ) -> ArtifactRef:
        """As ``write_stage``, for a payload that neither memory nor a temporary folder has to hold whole.

        ``build`` gets besides the folder a function that takes a finished file away: it is uploaded and
        deleted while the next ones are written, and if too many wait for that, the function waits too.
        """
        return self.write_joined(stage, lambda folder, uploads: build(folder, uploads.add))

    def write_joined(self, stage: Stage, build: Callable[[Path, Uploads], dict[str, Any]]) -> ArtifactRef:
        """As ``write_streamed``, for a payload of files that other artifacts hold in part.

        ``build`` gets besides the folder what takes finished files away, and takes those over that the
        store has: they are files of this artifact then like all others, whatever becomes of the other one.
        """
        digest = stage.digest
        existing, _ = self.state(digest)
        if existing is not None:
            return existing.reference(self.artifact_uri(digest))
        with tempfile.TemporaryDirectory(prefix="advfeat-") as folder:
            began = time.monotonic()
            with Uploads(partial(self._upload, digest), partial(self._take_over, digest)) as uploads:
                metrics = build(Path(folder), uploads)
                streamed = uploads.finish()
            left = [self._upload(digest, path) for path in sorted(Path(folder).iterdir())]
            manifest = Manifest(
                stage=stage.kind,
                version=stage.version,
                digest=digest,
                parameters=stage.parameters,
                inputs=stage.inputs,
                files=tuple(sorted([*streamed, *left], key=lambda file: file.name)),
                metrics=metrics,
                versions=_package_versions(),
                seconds=round(time.monotonic() - began, 3),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
            ).sealed()
            return self._publish(manifest).reference(self.artifact_uri(digest))

    def withdraw(self, digest: str) -> None:
        """Delete the manifest of an artifact, so that it is computed again; its payload is left over."""
        self.delete([self._manifest_path(digest)])

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files, side by side; those that are gone already do not matter.

        A folder on this machine that has taken a file's place is set aside.
        """

        def delete_one(path: str) -> None:
            if self.is_local:
                set_folder_aside(Path(path))
            with contextlib.suppress(FileNotFoundError):
                self.fs.rm_file(path)

        with ThreadPoolExecutor(_PARALLEL_WRITES) as pool:
            list(pool.map(delete_one, paths))

    @property
    def checkpoints(self) -> str:
        """The folder of the states of unfinished trainings, as the store's file system names it."""
        return f"{self.root}/checkpoints"

    def put(self, path: str, content: bytes) -> None:
        """Write a file that is no artifact, whole or not at all, in place of the one before."""
        if self.is_local:
            with complete_file(Path(path)) as partial:
                partial.write_bytes(content)
        else:
            self.fs.pipe_file(path, content)

    def create(self, path: str, content: bytes) -> None:
        """Write a file unless it is there; raises ``FileExistsError``. Of several writers one wins.

        On a server without conditional writes the last of those wins that write in the same moment.
        """
        if self.is_local:
            create_exclusively(Path(path), content)
            return
        if self.fs.exists(path):  # for servers that pass over the condition
            raise FileExistsError(path)
        for seconds in (*_SECONDS_BETWEEN_TRIES, None):
            try:
                self.fs.pipe_file(path, content, mode="create")
                return
            except PermissionError:
                raise
            except OSError as error:
                if self.fs.exists(path):
                    raise FileExistsError(path) from error
                if error.errno == errno.ENOSYS:
                    self.fs.pipe_file(path, content)
                    return
                if seconds is None:
                    raise
                time.sleep(seconds)  # S3 refuses both of two writers that meet: the next try tells

    def now(self) -> datetime:
        """Tell the time by the clock that dates the store's files, which may not be this machine's.

        Raises ``InputError`` if the store cannot be written.
        """
        if self.is_local and not self.fs.exists(self.root):
            return datetime.now(UTC)
        with explained(self._refused, "cannot be written"), self._probe() as probe:
            modified: datetime = self.fs.modified(probe)
        return modified

    def check_writable(self) -> None:
        """Write and delete a small object; raises ``InputError`` in one line if that fails.

        Warns if the server lacks conditional writes.
        """
        if isinstance(self.fs, MemoryFileSystem):
            raise self._refused("is in the memory of one process, where no worker finds it")
        with explained(self._refused, "cannot be written"):
            self._check_answers()
            if self.is_local:
                self.fs.makedirs(self.root, exist_ok=True)
            with self._probe() as probe:
                if self.is_local:
                    self._check_hard_links()
                elif not self._keeps_first(probe):
                    logger.warning(
                        "%s: this server lacks conditional writes (If-None-Match); of two runs that publish "
                        "one artifact in the same moment the last wins",
                        self.uri,
                    )

    # -- inside -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _probe(self) -> Iterator[str]:
        """Give the path of a small file that is written for this moment."""
        path = self._probe_path()
        try:
            self.fs.pipe_file(path, b"advfeat")
        except PermissionError as error:
            problem = f"cannot be written ({first_line(error)})"
            raise InputError("store", self.uri, problem, _REMEDY_OF_READERS) from error
        try:
            yield path
        finally:
            self.delete([path])

    def _probe_path(self) -> str:
        return f"{self.root}/.probe-{uuid.uuid4().hex}"

    def _check_hard_links(self) -> None:
        """Raise ``InputError`` if manifests cannot be created exclusively where files can be written."""
        path = self._probe_path()
        try:
            create_exclusively(Path(path), b"advfeat")
        except OSError as error:
            problem = f"is on a file system without hard links ({first_line(error)})"
            remedy = "choose a folder on another one, such as ext4, XFS or APFS, or s3://bucket/prefix"
            raise InputError("store", self.uri, problem, remedy) from error
        finally:
            self.delete([path])

    def _keeps_first(self, existing: str) -> bool:
        try:
            self.fs.pipe_file(existing, b"another", mode="create")
        except OSError as error:
            return error.errno != errno.ENOSYS
        return False

    def _upload(self, digest: str, path: Path) -> StoredFile:
        sha256 = file_sha256(path)
        file = StoredFile(
            name=path.name,
            path=f"{path.stem}-{sha256[:16]}{path.suffix}",
            bytes=path.stat().st_size,
            sha256=sha256,
        )
        target = self._file_path(digest, file)
        if self.is_local:
            with complete_file(Path(target)) as partial:
                shutil.copyfile(path, partial)
        else:
            self.fs.put_file(str(path), target)
        return file

    def _take_over(self, digest: str, of: str, file: StoredFile, name: str) -> StoredFile:
        """Give an artifact a file of another one: a second name on this machine's disk, else a copy.

        What lies elsewhere is copied there, without passing through this machine.
        Raises ``DamagedArtifactError`` if the file is gone.
        """
        stem, suffix = Path(name).stem, Path(name).suffix
        taken = file.model_copy(update={"name": name, "path": f"{stem}-{file.sha256[:16]}{suffix}"})
        source, target = self._file_path(of, file), self._file_path(digest, taken)
        try:
            if self.is_local:
                with complete_file(Path(target)) as partial:
                    _link_or_copy(Path(os.path.realpath(source)), partial)
            else:
                self._copy(source, target)
        except FileNotFoundError:
            raise DamagedArtifactError(f"{file.path} is missing") from None
        return taken

    def _copy(self, source: str, target: str) -> None:
        try:
            self.fs.cp_file(source, target)
        except FileNotFoundError:
            raise
        except (NotImplementedError, OSError) as error:
            logger.warning("%s: %s is copied through this machine (%s)", self.uri, source, first_line(error))
            self.fs.pipe_file(target, self.fs.cat_file(source))

    def _publish(self, manifest: Manifest) -> Manifest:
        """Create the manifest, in place of one that is damaged; return the one that is there then."""
        digest = manifest.digest
        try:
            self.create(self._manifest_path(digest), manifest.model_dump_json(indent=2).encode())
        except FileExistsError:
            try:
                # What was damaged or gone before may be whole by now, and others read it.
                published = self.intact(digest)
            except DamagedArtifactError:
                self.withdraw(digest)
                published = None
            return published or self._publish(manifest)
        return manifest


def _link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where that cannot be, as where it belongs to another user.

    A name has no date of its own: that of an old file would look left over until its artifact is there.
    """
    if time.time() - source.stat().st_mtime < _LINKED_UP_TO_SECONDS:
        with contextlib.suppress(OSError):
            target.hardlink_to(source)
            return
    shutil.copyfile(source, target)


def _package_versions() -> dict[str, str]:
    versions = {}
    for package in _RECORDED_PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
