"""How much room the things in a store take, by kind and by run."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from advfeat.storage import Store
from advfeat.upkeep.inventory import StoredObject
from advfeat.upkeep.reachability import KnownRun, digests_used
from advfeat.upkeep.stock import Stock


@dataclass(frozen=True)
class KindUsage:
    """One kind of things: how many there are, their size, and how much of it no run uses."""

    kind: str
    count: int
    bytes: int
    unused_bytes: int


@dataclass(frozen=True)
class RunUsage:
    """One run: the size of the artifacts that it uses, and of those that no other run uses.

    None where nothing tells what a run uses.
    """

    run: str
    title: str
    state: str
    bytes: int | None
    own_bytes: int | None


@dataclass(frozen=True)
class Usage:
    """What a store is filled with."""

    kinds: tuple[KindUsage, ...]
    runs: tuple[RunUsage, ...]

    @property
    def bytes(self) -> int:
        """Size of all of it."""
        return sum(kind.bytes for kind in self.kinds)


def usage(store: Store, stock: Stock, runs: Sequence[KnownRun]) -> Usage:
    """Measure a store."""
    used = {run.record.run: digests_used(store, run.record, stock.manifests) for run in runs}
    inventory = stock.inventory
    sizes = {digest: _bytes(inventory.artifacts[digest]) for digest in stock.manifests}
    users = Counter(digest for digests in used.values() for digest in digests or ())
    # A run that does not tell what it uses may use anything.
    unused = {digest for digest in sizes if not users[digest]} if None not in used.values() else set()
    by_kind = defaultdict(list)
    for digest, manifest in stock.manifests.items():
        by_kind["damaged artifact" if manifest is None else manifest.stage].append(digest)
    kinds = [
        KindUsage(
            kind, len(digests), sum(sizes[d] for d in digests), sum(sizes[d] for d in digests if d in unused)
        )
        for kind, digests in sorted(by_kind.items())
    ]
    unfinished = [files for digest, files in inventory.artifacts.items() if digest not in stock.manifests]
    others: dict[str, Sequence[Sequence[StoredObject]]] = {
        "checkpoint": list(inventory.checkpoints.values()),
        "cache record": [[file] for file in inventory.cache.values()],
        "record of a run": [[file] for file in inventory.records.values()],
        "plan of a run": [[file] for file in inventory.plans.values()],
        "not finished by its writer": [*unfinished, *([file] for file in inventory.partial)],
    }
    for kind, things in others.items():
        if things:
            kinds.append(KindUsage(kind, len(things), sum(map(_bytes, things)), 0))
    if inventory.uploads:
        kinds.append(KindUsage("unfinished upload", len(inventory.uploads), 0, 0))
    return Usage(tuple(kinds), tuple(_run_usage(run, used, users, sizes) for run in runs))


def _run_usage(
    run: KnownRun, used: dict[str, frozenset[str] | None], users: Counter[str], sizes: dict[str, int]
) -> RunUsage:
    record, digests = run.record, used[run.record.run]
    if digests is None:
        return RunUsage(record.run, record.title, record.state, None, None)
    own = [digest for digest in digests if users[digest] == 1]
    total, alone = (sum(sizes.get(digest, 0) for digest in some) for some in (digests, own))
    return RunUsage(record.run, record.title, record.state, total, alone)


def _bytes(files: Iterable[StoredObject]) -> int:
    return sum(file.bytes for file in files)
