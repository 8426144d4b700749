"""What lies in a store, file by file, told from its listing alone.

Only names that a store gives its own files count: whatever else lies under its root is nobody's business.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from advfeat.storage import Store

_DIGEST = r"(?P<digest>[0-9a-f]{64})"
_PARTIAL = re.compile(r"(.*/)?\.(probe-)?[0-9a-f]{32}")
_ARTIFACT = re.compile(rf"artifacts/{_DIGEST}/[^/]+")
_CACHE = re.compile(rf"cache/{_DIGEST}")
_CHECKPOINT = re.compile(rf"checkpoints/{_DIGEST}(-workers/.+)?")
_RUN = re.compile(r"(runs|plans)/(?P<run>[A-Za-z0-9_-][A-Za-z0-9._-]{0,199})\.json")
_NAMES = (_ARTIFACT, _CACHE, _CHECKPOINT, _RUN)
_UPLOADS_AT_ONCE = 1000
"""That S3 tells of in an answer; others would tell of more."""
FOLDERS = ("artifacts", "cache", "checkpoints", "runs", "plans")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A file of the store; ``modified`` is told by the store's clock.

    ``shared`` is the same for all names of a file that has several, as parts of data sets and shards have.
    """

    path: str
    bytes: int
    modified: datetime
    shared: int | None = None


@dataclass(frozen=True)
class UnfinishedUpload:
    """An upload in parts to S3 that has begun and was never completed; its parts are paid for."""

    bucket: str
    key: str
    upload: str
    began: datetime
    digest: str | None
    """Digest of what it is for, if that has one."""


@dataclass(frozen=True)
class Inventory:
    """The files of a store by what they are for: by digest, or by the id of a run."""

    artifacts: dict[str, list[StoredObject]] = field(default_factory=lambda: defaultdict(list))
    """Manifest and payload; without a manifest it is no artifact, but what a writer has uploaded so far."""
    cache: dict[str, StoredObject] = field(default_factory=dict)
    checkpoints: dict[str, list[StoredObject]] = field(default_factory=lambda: defaultdict(list))
    records: dict[str, StoredObject] = field(default_factory=dict)
    plans: dict[str, StoredObject] = field(default_factory=dict)
    partial: list[StoredObject] = field(default_factory=list)
    """Files that a writer had not finished, and probes."""
    uploads: list[UnfinishedUpload] = field(default_factory=list)


def take_inventory(store: Store, folders: Iterable[str] = FOLDERS) -> Inventory:
    """List the files of a store, or those in some of its folders."""
    inventory = Inventory()
    for file in _files(store, folders):
        name = file.path.removeprefix(f"{store.root}/")
        if _PARTIAL.fullmatch(name):
            inventory.partial.append(file)
        elif match := _ARTIFACT.fullmatch(name):
            inventory.artifacts[match["digest"]].append(file)
        elif match := _CACHE.fullmatch(name):
            inventory.cache[match["digest"]] = file
        elif match := _CHECKPOINT.fullmatch(name):
            inventory.checkpoints[match["digest"]].append(file)
        elif match := _RUN.fullmatch(name):
            (inventory.records if match[1] == "runs" else inventory.plans)[match["run"]] = file
    inventory.uploads.extend(_unfinished_uploads(store))
    return inventory


def _files(store: Store, folders: Iterable[str]) -> Iterator[StoredObject]:
    for path, info in store.fs.find(store.root, maxdepth=1, detail=True).items():
        if path.removeprefix(f"{store.root}/").startswith(".probe-"):
            yield _stored_object(store, info)
    for folder in folders:
        for info in store.place.listed(f"{store.root}/{folder}"):
            yield _stored_object(store, info)


def _stored_object(store: Store, info: dict[str, Any]) -> StoredObject:
    modified = store.place.written(info)
    if isinstance(modified, float):
        modified = datetime.fromtimestamp(modified, UTC)
    shared = info["ino"] if store.is_local and info["nlink"] > 1 else None
    return StoredObject(info["name"], info["size"] or 0, modified, shared)


def _unfinished_uploads(store: Store) -> Iterator[UnfinishedUpload]:
    if not store.uri.startswith("s3://"):
        return
    bucket, prefix, _ = store.fs.split_path(f"{store.root}/")
    page: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxUploads": _UPLOADS_AT_ONCE}
    while True:
        try:
            answer = store.fs.call_s3("list_multipart_uploads", **page)
        except OSError:  # not every server lists them, nor every key may
            return
        for upload in answer.get("Uploads", []):
            name = upload["Key"].removeprefix(prefix)
            if match := next(filter(None, (pattern.fullmatch(name) for pattern in _NAMES)), None):
                digest = match.groupdict().get("digest")
                yield UnfinishedUpload(bucket, upload["Key"], upload["UploadId"], upload["Initiated"], digest)
        # SeaweedFS names the last upload, but not its key.
        markers = {name: answer.get(f"Next{name}") for name in ("KeyMarker", "UploadIdMarker")}
        following = page | {name: marker for name, marker in markers.items() if marker}
        if not answer.get("IsTruncated") or following == page:
            return
        page = following
