"""What in a store nobody needs any more, and how it is taken away while others work on the store.

A run writes down its plan before it looks for artifacts; who takes garbage away puts up a sign before
reading which runs there are. So one of the two sees the other: the run waits until the sign is gone, or
its plan is heeded. All ages are told by the store's own clock.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

from advfeat.errors import DamagedArtifactError, InputError, StoreBusyError
from advfeat.storage import Store
from advfeat.upkeep.inventory import Inventory, StoredObject, UnfinishedUpload, take_inventory
from advfeat.upkeep.reachability import KnownRun, digests_used, read_runs
from advfeat.upkeep.stock import Stock, Tell, is_manifest, take_stock

YOUNGEST_ARTIFACT = timedelta(hours=1)
"""Nothing younger goes: it may belong to work that no run stands for, such as a repair."""
YOUNGEST_LEFTOVER = timedelta(days=1)
"""What is not finished may still be, for so long."""
_SIGN_LASTS = timedelta(minutes=2)
_SECONDS_BETWEEN_LOOKS = 1.0
_BATCH = 200


@dataclass(frozen=True)
class Garbage:
    """One thing that can go, and why: its files, the first of which goes before the rest, or an upload."""

    what: str
    name: str
    why: str
    files: tuple[StoredObject, ...] = ()
    upload: UnfinishedUpload | None = None

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True)
class Survey(Stock):
    """What a store holds, and the time by its clock before that was looked at."""

    now: datetime


@dataclass(frozen=True)
class Forgotten:
    """Which runs no longer count: those of these ids, and those that ended longer ago than ``older_than``.

    With ``user``, runs that name another one count nevertheless.
    """

    ids: frozenset[str] = frozenset()
    older_than: timedelta | None = None
    user: str | None = None

    def has(self, run: KnownRun, now: datetime) -> bool:
        """Whether this run is among them; one that goes on never is."""
        if run.is_alive(now) or (self.user is not None and run.record.user not in ("", self.user)):
            return False
        too_old = self.older_than is not None and now - run.written > self.older_than
        return too_old or run.record.run in self.ids


def survey(store: Store, tell: Tell = lambda *_: None) -> Survey:
    """Look at everything in a store; raises ``InputError`` if it cannot be written, which tells its time."""
    now = store.now()
    stock = take_stock(store, tell)
    return Survey(stock.inventory, stock.manifests, now)


def forgotten_runs(
    runs: Iterable[KnownRun], names: Iterable[str], now: datetime, user: str | None = None
) -> frozenset[str]:
    """Return the ids that starts of ids name.

    Raises ``InputError`` for one that names none or several, a run that goes on, or with ``user`` one that
    names another user.
    """
    runs, ids = list(runs), set()
    for name in names:
        matches = [run for run in runs if run.record.run.startswith(name)]
        if len(matches) != 1:
            problem = f"fits {len(matches)} runs" if matches else "names no run"
            raise InputError("--forget", name, problem, "list them with: advfeat runs")
        if matches[0].is_alive(now):
            raise InputError(
                "--forget",
                name,
                "is still running, or was killed minutes ago",
                "cancel it, or ask again later",
            )
        if user is not None and (other := matches[0].record.user) not in ("", user):
            raise InputError("--forget", name, f"is a run of {other}", "ask, then add --everyones")
        ids.add(matches[0].record.run)
    return frozenset(ids)


def find_garbage(
    store: Store, surveyed: Survey, runs: Sequence[KnownRun], forgotten: Forgotten
) -> list[Garbage]:
    """Return what can go once the forgotten runs no longer count; files of runs come last.

    Raises ``InputError`` if a run that counts does not tell what it uses: nothing can go then.
    """
    now = surveyed.now
    kept = [run for run in runs if not forgotten.has(run, now)]
    used, at_work = set[str](), set[str]()
    for run in kept:
        digests = digests_used(store, run.record, surveyed.manifests)
        if digests is None:
            problem = "does not say what it uses, so nothing can be deleted"
            raise InputError("run", run.record.run, problem, "drop it first, with --forget")
        used |= digests
        if run.is_alive(now):
            at_work |= digests
    youngest = max(forgotten.older_than or YOUNGEST_ARTIFACT, YOUNGEST_ARTIFACT)
    return [
        *_artifacts(surveyed, used, now - youngest),
        *_checkpoints(surveyed, used, at_work, now - YOUNGEST_LEFTOVER),
        *_leftovers(surveyed, at_work, now - YOUNGEST_LEFTOVER),
        *_runs(surveyed.inventory, runs, kept, now - YOUNGEST_LEFTOVER),
    ]


def collect(
    store: Store, surveyed: Survey, forgotten: Forgotten, gone: Callable[[int], None] = lambda _: None
) -> list[Garbage]:
    """Delete what can go, and return it; ``gone`` is told how many things are gone so far.

    Raises ``InputError`` like ``find_garbage``, and ``StoreBusyError`` if somebody else is at it.
    """
    with _sign(store) as check_sign:
        runs = read_runs(store, take_inventory(store, ["runs"]).records)
        garbage = find_garbage(store, surveyed, runs, forgotten)
        for start in range(0, len(garbage), _BATCH):
            check_sign()
            batch = garbage[start : start + _BATCH]
            # A manifest before its payload, so that nobody sees half an artifact; a record before its plan.
            store.delete(file.path for entry in batch for file in entry.files[:1])
            store.delete(file.path for entry in batch for file in entry.files[1:])
            for entry in batch:
                if entry.upload is not None:
                    _abort(store, entry.upload)
            _remove_empty_folders(store, batch)
            gone(start + len(batch))
    return garbage


def wait_while_collected(store: Store, tell: Callable[[str], None]) -> None:
    """Wait while somebody takes garbage away, which a run must not begin to use."""
    told = False
    while _is_up(store):
        if not told:
            tell(f"advfeat gc is running on {store.uri}; waiting")
            told = True
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _artifacts(surveyed: Survey, used: Collection[str], before: datetime) -> Iterator[Garbage]:
    for digest, manifest in surveyed.manifests.items():
        files = surveyed.inventory.artifacts[digest]
        if digest in used or not _all_older(files, before):
            continue
        files = sorted(files, key=is_manifest, reverse=True)
        if record := surveyed.inventory.cache.get(digest):
            files.append(record)
        what = "damaged artifact" if manifest is None else manifest.stage
        yield Garbage(what, digest, "no kept run uses it", tuple(files))


def _checkpoints(
    surveyed: Survey, used: Collection[str], at_work: Collection[str], before: datetime
) -> Iterator[Garbage]:
    for digest, files in surveyed.inventory.checkpoints.items():
        if digest in at_work or not _all_older(files, before):
            continue
        if surveyed.manifests.get(digest) is not None:
            yield Garbage("checkpoint", digest, "its training is finished", tuple(files))
        elif digest not in used:
            yield Garbage("checkpoint", digest, "no kept run trains it", tuple(files))


def _leftovers(surveyed: Survey, at_work: Collection[str], before: datetime) -> Iterator[Garbage]:
    inventory = surveyed.inventory
    for digest, files in inventory.artifacts.items():
        if digest in at_work:
            continue
        if digest not in surveyed.manifests:
            if _all_older(files, before):
                yield Garbage("leftover", digest, "its writer did not finish", tuple(files))
        elif (manifest := surveyed.manifests[digest]) is not None:
            named = {*manifest.files}
            stray = [file for file in files if Path(file.path).name not in named and not is_manifest(file)]
            if stray and _all_older(files, before):
                yield Garbage("leftover", digest, "another writer was first", tuple(stray))
    for file in inventory.partial:
        if file.modified < before:
            yield Garbage("leftover", file.path, "its writer did not finish", (file,))
    for digest, file in inventory.cache.items():
        if digest not in surveyed.manifests and digest not in at_work and file.modified < before:
            yield Garbage("cache record", digest, "its artifact is gone", (file,))
    for upload in inventory.uploads:
        if upload.digest not in at_work and upload.began < before:
            yield Garbage("unfinished upload", upload.key, "its writer did not finish", upload=upload)


def _runs(
    inventory: Inventory, runs: Iterable[KnownRun], kept: Sequence[KnownRun], before: datetime
) -> Iterator[Garbage]:
    known = {run.record.run for run in runs}
    for run in sorted(known - {run.record.run for run in kept}):
        files = (inventory.records.get(run), inventory.plans.get(run))
        yield Garbage("run", run, "forgotten", tuple(file for file in files if file is not None))
    for run, file in inventory.plans.items():
        if run not in known and file.modified < before:
            yield Garbage("leftover", run, "the plan of no run", (file,))


def _all_older(files: Iterable[StoredObject], before: datetime) -> bool:
    return all(file.modified < before for file in files)


def _abort(store: Store, upload: UnfinishedUpload) -> None:
    with contextlib.suppress(FileNotFoundError):
        store.fs.call_s3(
            "abort_multipart_upload", Bucket=upload.bucket, Key=upload.key, UploadId=upload.upload
        )


def _remove_empty_folders(store: Store, garbage: Iterable[Garbage]) -> None:
    if not store.is_local:
        return
    folders = {folder for entry in garbage for file in entry.files for folder in Path(file.path).parents}
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        if len(folder.parts) > len(Path(store.root).parts) + 1:  # artifacts and its like may be empty
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _sign(store: Store) -> Iterator[Callable[[], None]]:
    """Put up the sign; give what looks whether it is still there and dates it anew, or raises."""
    mine = uuid4().hex.encode()
    path = _sign_path(store)
    if not _is_up(store):
        store.delete([path])  # of one that was killed
    try:
        store.create(path, mine)
    except FileExistsError:
        raise StoreBusyError(f"another advfeat gc is running on {store.uri}") from None

    def is_mine() -> bool:
        with contextlib.suppress(FileNotFoundError, DamagedArtifactError):
            return store.get(path, len(mine)) == mine
        return False

    def check() -> None:
        if not (_is_up(store) and is_mine()):
            raise StoreBusyError(
                "this advfeat gc was halted for minutes, and a run may have begun; run it again"
            )
        store.put(path, mine)

    try:
        yield check
    finally:
        if is_mine():
            store.delete([path])


def _is_up(store: Store) -> bool:
    try:
        put_up: datetime = store.fs.modified(_sign_path(store))
    except FileNotFoundError:
        return False
    return store.now() - put_up < _SIGN_LASTS


def _sign_path(store: Store) -> str:
    return f"{store.root}/collecting"
