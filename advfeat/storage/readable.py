"""A store as it is read: which artifacts it holds, whether they are intact, and what their files say."""

import contextlib
import hashlib
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from advfeat.ahead import computed_ahead
from advfeat.cluster.answers import PATIENCE_SECONDS, within
from advfeat.cluster.certificates import check_certificates
from advfeat.digest import stream_sha256
from advfeat.errors import (
    DamagedArtifactError,
    InputError,
    MissingArtifactError,
    explained,
    first_line,
)
from advfeat.files.place import Named, place_of, quoted_place
from advfeat.storage.contents import MOST_MANIFEST_BYTES, parse_manifest
from advfeat.storage.local_files import check_file, check_folder, is_plain_folder
from advfeat.storage.manifest import Manifest, StoredFile

_PARALLEL_READS = 16
_MOST_UNLISTED = 500
"""Artifacts that are looked up without a listing: of each that is not there, two requests say so."""

_MANIFEST = "manifest.json"
NO_MANIFEST = "manifest.json is missing"
"""What is wrong with an artifact whose writer did not finish."""

_DELETED = "deleted: the store has a record of it, but not the artifact"
_PIECEMEAL = {"block_size": 64 << 10, "cache_type": "blockcache", "cache_options": {"maxblocks": 256}}
"""How a file elsewhere is read, of which little is wanted here and there; S3's own way is 50 MB at a time."""

_WEEK_SECONDS = 7 * 24 * 3600
"""The longest that S3 lets a signed address hold."""


class ReadableStore:
    """A place of artifacts, of which nothing here writes; addressed by an fsspec URI or a local path."""

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
        there = self._infos(digest, [_MANIFEST, *(file.path for file in manifest.files)])
        if _MANIFEST not in there:  # by now
            return None
        published = self.place.written(there[_MANIFEST])
        for file in manifest.files:
            if (info := there.get(file.path)) is None:
                raise DamagedArtifactError(f"{file.path} is missing")
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
        if manifest is None and self._has_record(digest):
            return None, _DELETED
        return manifest, None

    def states(self, digests: Sequence[str]) -> dict[str, tuple[Manifest | None, str | None]]:
        """Return ``state`` of many artifacts, looked up side by side.

        Of more than some hundred, the folders of the store are listed first, and only what is there is
        looked up: a plan of thousands of stages that are all new costs a few requests.
        """
        found: dict[str, tuple[Manifest | None, str | None]] = {}
        looked_up = digests
        if len(digests) > _MOST_UNLISTED:
            folders, records = self.place.names("artifacts"), self.place.names("cache")
            found = {digest: (None, _DELETED if digest in records else None) for digest in digests}
            looked_up = [digest for digest in found if digest in folders]
        with ThreadPoolExecutor(_PARALLEL_READS) as pool:
            found |= zip(looked_up, pool.map(self.state, looked_up), strict=True)
        return found

    def digests(self, start: str = "") -> list[str]:
        """List the digests of all published artifacts, or of those whose digest begins so."""
        return sorted(self._published(start))

    def begun(self) -> list[str]:
        """List the digests of all artifacts and of those that a writer began; elsewhere of folders alone."""
        return sorted(filter(_is_digest, self.place.names("artifacts")))

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
                        published[path.name] = (path / _MANIFEST).lstat().st_mtime
        else:
            starts = [start] if start else "0123456789abcdef"  # side by side, a thousand files at a time
            pages = computed_ahead(lambda each: self._written(folder, each), starts, len(starts))
            published = {digest: written for page in pages for digest, written in page.items()}
        return {digest: written for digest, written in published.items() if _is_digest(digest)}

    def _written(self, folder: str, start: str) -> dict[str, Any]:
        """Return when each manifest below a folder was written, by the digests that begin so."""
        written = {}
        for info in self.place.listed(folder, start):
            digest, _, name = info["name"].removeprefix(f"{folder}/").partition("/")
            if name == _MANIFEST:
                written[digest] = self.place.written(info)
        return written

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
        return self.readable_manifests(self.begun())

    def readable_manifests(self, digests: Iterable[str]) -> Iterator[Manifest]:
        """Iterate over the manifests of those of these artifacts that are there and readable."""
        for manifest in computed_ahead(self.readable_manifest, digests, _PARALLEL_READS):
            if manifest is not None:
                yield manifest

    def verify(self, digest: str) -> str | None:
        """Read every byte of an artifact again; return what is wrong with it, or None."""
        try:
            manifest = self.find(digest)
            if manifest is None:
                return NO_MANIFEST
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
        if not self.is_local and most_bytes <= MOST_MANIFEST_BYTES:  # in one request
            content = self._start_of(path, most_bytes + 1)
            size = len(content)
        else:
            with self._opened(path) as file:
                size = _size(file)
                content = file.read(size) if size <= most_bytes else b""
        if size > most_bytes:
            raise DamagedArtifactError(
                f"{path} has more than {most_bytes:,} bytes, more than any of its kind"
            )
        return content

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
        if self.is_local and not is_plain_folder(folder):
            check_folder(Path(folder), Path(self.root) / "artifacts")
        return folder

    def _manifest_path(self, digest: str) -> str:
        return f"{self._folder(digest)}/{_MANIFEST}"

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

    def _infos(self, digest: str, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return what fsspec says of those of these files of an artifact that are there."""
        folder, found = self._folder(digest), {}
        if not self.is_local:
            return {info["name"].removeprefix(f"{folder}/"): info for info in self.place.listed(folder)}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found[name] = self.fs.info(f"{folder}/{name}")
        return found

    def _has_record(self, digest: str) -> bool:
        """Tell whether Prefect has a cache record of a stage here; elsewhere in one request."""
        path = f"{self.cache}/{digest}"
        if self.is_local:
            return Path(path).exists()
        try:
            self._start_of(path, 1)
        except FileNotFoundError:
            return False
        return True

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
