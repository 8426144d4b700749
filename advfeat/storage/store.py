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
import hashlib
import logging
import os
import re
import shlex
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
from typing import Any, BinaryIO

from fsspec.implementations.memory import MemoryFileSystem

from advfeat.cluster.answers import PATIENCE_SECONDS, within
from advfeat.cluster.certificates import check_certificates
from advfeat.digest import file_sha256, stream_sha256
from advfeat.errors import (
    DamagedArtifactError,
    InputError,
    MissingArtifactError,
    explained,
    first_line,
)
from advfeat.files.place import Named, place_of, quoted_place
from advfeat.storage.contents import MOST_MANIFEST_BYTES, parse_manifest
from advfeat.storage.local_files import (
    check_file,
    check_folder,
    complete_file,
    create_exclusively,
    set_folder_aside,
)
from advfeat.storage.manifest import ArtifactRef, Manifest, StoredFile
from advfeat.storage.stage import Stage
from advfeat.storage.uploads import Uploads

_RECORDED_PACKAGES = ("advfeat", "torch", "numpy", "pyarrow", "safetensors")
_PARALLEL_READS = 16
_PIECEMEAL = {"block_size": 64 << 10, "cache_type": "blockcache", "cache_options": {"maxblocks": 256}}
"""How a file elsewhere is read, of which little is wanted here and there; S3's own way is 50 MB at a time."""
_SECONDS_BETWEEN_TRIES = (0.1, 0.5, 2.0)
_REMEDY_OF_READERS = (
    "to read it is enough for plan, runs, compare, report and export; for the rest ask for the right to "
    "write, or name a store of your own with --store"
)

_WEEK_SECONDS = 7 * 24 * 3600
"""The longest that S3 lets a signed address hold."""

logger = logging.getLogger(__name__)


class Store:
    """A place for artifacts, addressed by an fsspec URI or a local path."""

    def __init__(self, uri: Named) -> None:
        """Open the store at a place; raises ``InputError`` if there can be none."""
        named = os.fspath(uri)
        try:
            self.place = place_of(named)
        except (ValueError, ImportError) as error:
            problem = f"is not a usable URI ({first_line(error)})"
            raise InputError("store", named, problem, "give a path or s3://bucket/prefix") from error
        self.uri, self.fs, self.root = self.place.uri, self.place.fs, self.place.root
        if self.is_local:
            if self.root == "/":
                raise InputError("store", named, "is the whole file system", "name a folder of it")
            _check_not_elsewhere(Path(self.root))

    @property
    def is_local(self) -> bool:
        """Whether the artifacts lie on this machine's file system."""
        return self.place.is_local

    @property
    def cache(self) -> str:
        """The folder of Prefect's cache records, as the store's file system names it."""
        return f"{self.root}/cache"

    def artifact_uri(self, digest: str) -> str:
        """Return the URI of an artifact's folder (local stores: its path)."""
        return self._folder(digest) if self.is_local else f"{self.uri}/artifacts/{digest}"

    def address(self, digest: str, name: str) -> str | None:
        """Return an address of a page among an artifact's files, which a browser opens for a week.

        ``None`` where the store serves nothing: on this machine's disk, or where it cannot sign an address.
        """
        file = next((each for each in self.manifest(digest).files if each.name == name), None)
        if file is None or self.is_local:
            return None
        try:
            signed = self.fs.sign(
                self._file_path(digest, file), expiration=_WEEK_SECONDS, ResponseContentType="text/html"
            )
        except Exception:  # each back end has its own, and most sign nothing
            return None
        return str(signed) if str(signed).startswith(("http://", "https://")) else None

    # -- looking up ---------------------------------------------------------------------------

    def find(self, digest: str) -> Manifest | None:
        """Read an artifact's manifest; None if there is none.

        Raises ``DamagedArtifactError`` if the manifest is unreadable, was edited, or belongs to
        another digest.
        """
        try:
            content = self._start_of(self._manifest_path(digest), MOST_MANIFEST_BYTES + 1)
        except FileNotFoundError:
            return None
        manifest = parse_manifest(content)
        if manifest.digest != digest:
            raise DamagedArtifactError("manifest.json belongs to another digest")
        return manifest

    def intact(self, digest: str) -> Manifest | None:
        """Return the manifest of an artifact whose payload is all there; None if there is none.

        Files are compared by size, and by SHA-256 where they were changed after the manifest was
        published, so that a healthy artifact costs a few look-ups. Raises ``DamagedArtifactError``.
        """
        manifest = self.find(digest)
        if manifest is None:
            return None
        published = self.place.written(self.fs.info(self._manifest_path(digest)))
        for file in manifest.files:
            try:
                info = self.fs.info(self._file_path(digest, file))
            except FileNotFoundError:
                raise DamagedArtifactError(f"{file.path} is missing") from None
            if info["type"] != "file":
                raise DamagedArtifactError(f"{file.path} is not a regular file")
            if info["size"] != file.bytes:
                raise DamagedArtifactError(_wrong_size(file, info["size"]))
            if self.place.written(info) > published:
                self._check_content(digest, file)
        return manifest

    def state(self, digest: str) -> tuple[Manifest | None, str | None]:
        """Return an artifact's manifest if it is intact, else None and what befell it, if anything."""
        try:
            manifest = self.intact(digest)
        except DamagedArtifactError as damage:
            return None, f"damaged: {damage}"
        if manifest is None and self.fs.exists(f"{self.cache}/{digest}"):
            return None, "deleted: the store has a record of it, but not the artifact"
        return manifest, None

    def states(self, digests: list[str]) -> dict[str, tuple[Manifest | None, str | None]]:
        """Return ``state`` of many artifacts, looked up side by side."""
        with ThreadPoolExecutor(_PARALLEL_READS) as pool:
            return dict(zip(digests, pool.map(self.state, digests), strict=True))

    def digests(self, start: str = "") -> list[str]:
        """List the digests of all published artifacts, or of those whose digest begins so."""
        return sorted(self._published(start))

    def last_digests(self, count: int) -> list[str]:
        """List the digests of the artifacts that were published last, the last one first."""
        published = self._published()
        return sorted(published, key=lambda digest: (published[digest], digest), reverse=True)[:count]

    def _published(self, start: str = "") -> dict[str, Any]:
        """Return when each artifact was published whose digest begins so."""
        folder = f"{self.root}/artifacts"
        published: dict[str, Any] = {}
        if self.is_local:
            paths = Path(folder).iterdir() if self.fs.isdir(folder) else ()
            for path in paths:
                if path.name.startswith(start):
                    with contextlib.suppress(OSError):
                        published[path.name] = (path / "manifest.json").lstat().st_mtime
        else:
            for file, written in self.place.beginning("artifacts", start).items():
                digest, _, name = file.removeprefix(f"{folder}/").partition("/")
                if name == "manifest.json":
                    published[digest] = written
        return {digest: written for digest, written in published.items() if _is_digest(digest)}

    def resolve(self, prefix: str) -> str:
        """Expand the start of a digest to the one artifact that it names."""
        matches = self.digests(prefix)
        if len(matches) != 1:
            problem = "names no artifact" if not matches else f"fits {len(matches)} artifacts"
            raise InputError("digest", prefix, f"{problem} in {self.uri}", "list them with: advfeat ls")
        return matches[0]

    def readable_manifest(self, digest: str) -> Manifest | None:
        """Read an artifact's manifest; None if there is none or it is damaged."""
        try:
            return self.find(digest)
        except DamagedArtifactError:
            return None

    def manifests(self) -> Iterator[Manifest]:
        """Iterate over the manifests of all readable artifacts."""
        return self.readable_manifests(self.digests())

    def readable_manifests(self, digests: Iterable[str]) -> Iterator[Manifest]:
        """Iterate over the manifests of those of these artifacts that are there and readable."""
        with ThreadPoolExecutor(_PARALLEL_READS) as pool:
            for manifest in pool.map(self.readable_manifest, digests):
                if manifest is not None:
                    yield manifest

    def verify(self, digest: str) -> str | None:
        """Read every byte of an artifact again; return what is wrong with it, or None."""
        try:
            manifest = self.find(digest)
            if manifest is None:
                return "manifest.json is missing"
            for file in manifest.files:
                self._check_content(digest, file)
        except DamagedArtifactError as damage:
            return str(damage)
        return None

    # -- reading ------------------------------------------------------------------------------

    def manifest(self, digest: str) -> Manifest:
        """Read the manifest of an artifact that must be there.

        Raises ``MissingArtifactError`` or ``DamagedArtifactError``.
        """
        manifest = self.find(digest)
        if manifest is None:
            raise MissingArtifactError(f"{self.artifact_uri(digest)} is not in the store")
        return manifest

    def read(self, digest: str, name: str) -> bytes:
        """Read one payload file whole.

        Raises ``MissingArtifactError`` if the artifact or the file is not there and
        ``DamagedArtifactError`` if its bytes are not those that the manifest promises.
        """
        for file in self.manifest(digest).files:
            if file.name == name:
                return self.read_file(digest, file)
        raise MissingArtifactError(f"{self.artifact_uri(digest)} holds no {name}")

    def read_file(self, digest: str, file: StoredFile) -> bytes:
        """Read one payload file whole, which the artifact's manifest names.

        Raises ``DamagedArtifactError`` if its bytes are not those that the manifest promises.
        """
        with self._payload(digest, file) as payload:
            content: bytes = payload.read(_checked_size(file, payload))
        _check_sha256(file, hashlib.sha256(content).hexdigest(), len(content))
        return content

    @contextlib.contextmanager
    def opened(self, digest: str, file: StoredFile) -> Iterator[BinaryIO]:
        """Open a payload file to read little of it; its size is compared, its SHA-256 is not.

        Raises ``DamagedArtifactError``.
        """
        with self._payload(digest, file, **_PIECEMEAL) as payload:
            _checked_size(file, payload)
            yield payload

    def get(self, path: str, most_bytes: int) -> bytes:
        """Read a file that is no artifact.

        Raises ``FileNotFoundError``, and ``DamagedArtifactError`` if it is larger, or no regular file.
        """
        with self._opened(path) as file:
            if (size := _size(file)) > most_bytes:
                raise DamagedArtifactError(f"{path} has {size:,} bytes, more than any of its kind")
            content: bytes = file.read(size)
        return content

    # -- writing ------------------------------------------------------------------------------

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
        digest = stage.digest
        existing, _ = self.state(digest)
        if existing is not None:
            return existing.reference(self.artifact_uri(digest))
        with tempfile.TemporaryDirectory(prefix="advfeat-") as folder:
            began = time.monotonic()
            with Uploads(partial(self._upload, digest)) as uploads:
                metrics = build(Path(folder), uploads.add)
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

        with ThreadPoolExecutor(_PARALLEL_READS) as pool:
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

    def check_readable(self) -> None:
        """Raise ``InputError`` in one line if the store cannot be listed; an absent one is empty."""
        with explained(self._refused, "cannot be read"), contextlib.suppress(FileNotFoundError):
            self._check_answers()
            if self.is_local and not self.fs.isdir(self.root) and self.fs.exists(self.root):
                raise self._refused("is not a folder")
            self.fs.ls(self.root)

    # -- inside -------------------------------------------------------------------------------

    def _check_answers(self) -> None:
        """Raise ``TimeoutError`` if a store elsewhere keeps silent: its client would ask for minutes."""
        if not self.is_local:
            check_certificates()
            within(PATIENCE_SECONDS, lambda: self.fs.exists(self.root))

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

    def _refused(self, problem: str) -> InputError:
        remedy = "give a folder that you may write to with --store"
        if self.uri.startswith(("s3://", "s3a://")):
            remedy = (
                "create the bucket, and set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for other "
                "servers than Amazon's, AWS_ENDPOINT_URL"
            )
        return InputError("store", self.uri, problem, remedy)

    def _folder(self, digest: str) -> str:
        if not _is_digest(digest):
            raise MissingArtifactError(f"{digest[:80]!r} is not a digest of an artifact")
        folder = f"{self.root}/artifacts/{digest}"
        if self.is_local:
            check_folder(Path(folder), Path(self.root) / "artifacts")
        return folder

    def _manifest_path(self, digest: str) -> str:
        return f"{self._folder(digest)}/manifest.json"

    def _file_path(self, digest: str, file: StoredFile) -> str:
        return f"{self._folder(digest)}/{file.path}"

    def _check_content(self, digest: str, file: StoredFile) -> None:
        with self._payload(digest, file) as payload:
            _check_sha256(file, *stream_sha256(payload))

    @contextlib.contextmanager
    def _payload(self, digest: str, file: StoredFile, **options: Any) -> Iterator[Any]:
        try:
            with self._opened(self._file_path(digest, file), **options) as payload:
                yield payload
        except FileNotFoundError:
            raise DamagedArtifactError(f"{file.path} is missing") from None

    def _start_of(self, path: str, most_bytes: int) -> bytes:
        """Read so much of a file, elsewhere in one request."""
        if not self.is_local:
            try:
                start: bytes = self.fs.cat_file(path, start=0, end=most_bytes)
                return start
            except FileNotFoundError:
                raise
            except OSError:  # such as of an empty file, of which S3 gives no range
                pass
        with self._opened(path) as file:
            content: bytes = file.read(most_bytes)
        return content

    @contextlib.contextmanager
    def _opened(self, path: str, **options: Any) -> Iterator[Any]:
        if self.is_local:
            root = Path(self.root)
            below, *rest = Path(path).relative_to(root).parts
            check_file(Path(path), root / below if rest else root)
        with self.fs.open(path, "rb", **options) as file:
            yield file

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


def _is_digest(name: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}", name) is not None


def _size(file: Any) -> int:
    """Return the size of an opened file: memory is taken for what is there, not for what is promised."""
    size: int = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def _checked_size(file: StoredFile, payload: Any) -> int:
    if (size := _size(payload)) != file.bytes:
        raise DamagedArtifactError(_wrong_size(file, size))
    return size


def _wrong_size(file: StoredFile, size: int) -> str:
    return f"{file.path} has {size} bytes, its manifest says {file.bytes}"


def _check_sha256(file: StoredFile, sha256: str, length: int) -> None:
    if (sha256, length) != (file.sha256, file.bytes):
        raise DamagedArtifactError(
            f"{file.path} holds {length} bytes of SHA-256 {sha256[:12]}…, its manifest says "
            f"{file.bytes} bytes of {file.sha256[:12]}…"
        )


def _check_not_elsewhere(root: Path) -> None:
    """Raise ``InputError`` if the store lies where earlier versions wrote it, and not where it is named."""
    quoted = Path(quoted_place(str(root)))
    if quoted == root or (root / "artifacts").exists() or not (quoted / "artifacts").exists():
        return
    raise InputError(
        "store",
        str(root),
        f"was written to {str(quoted)!r} by an earlier version, which quoted its name",
        f"move it: mkdir -p {shlex.quote(str(root))} && mv {shlex.quote(str(quoted))}/* "
        f"{shlex.quote(str(root))} (or, for another store, make a folder artifacts there)",
    )


def _package_versions() -> dict[str, str]:
    versions = {}
    for package in _RECORDED_PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
