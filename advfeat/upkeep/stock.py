"""What a store holds: its files, from their listing, and what its manifests say of one another.

Of each artifact some hundred bytes are kept, so that a store of 100,000 fits into memory.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from advfeat.ahead import computed_ahead
from advfeat.storage import Store
from advfeat.upkeep.inventory import Inventory, StoredObject, take_inventory

_READ_AHEAD = 16
Tell = Callable[[int, int], None]
"""Is told how many manifests are read, and how many there are."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept of a manifest: its stage, the digests of its inputs, and the names of its files."""

    stage: str
    inputs: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(frozen=True)
class Stock:
    """The files of a store at one moment, and its manifests by digest, None for unreadable ones.

    What a shard and its data set share on a disk counts as the data set's: the shard's files of it have no
    bytes, as these stay when the shard goes.
    """

    inventory: Inventory
    manifests: dict[str, Known | None]


def take_stock(store: Store, tell: Tell = lambda *_: None) -> Stock:
    """List the files of a store and read every manifest, a few at a time; writes nothing."""
    inventory = take_inventory(store)
    published = [digest for digest, files in inventory.artifacts.items() if any(map(is_manifest, files))]
    manifests: dict[str, Known | None] = {}
    found = computed_ahead(lambda digest: _known(store, digest), published, _READ_AHEAD)
    for digest, known in zip(published, found, strict=True):
        manifests[digest] = known
        tell(len(manifests), len(published))
    _count_once(inventory, manifests)
    return Stock(inventory, manifests)


def _count_once(inventory: Inventory, manifests: Mapping[str, Known | None]) -> None:
    of_shards = {digest for digest, known in manifests.items() if known and known.stage == "shard"}
    counted = {
        file.shared for digest in manifests.keys() - of_shards for file in inventory.artifacts[digest]
    } - {None}
    for digest in of_shards:
        inventory.artifacts[digest] = [
            replace(file, bytes=0) if file.shared in counted else file for file in inventory.artifacts[digest]
        ]


def _known(store: Store, digest: str) -> Known | None:
    manifest = store.readable_manifest(digest)
    if manifest is None:
        return None
    inputs = map(sys.intern, manifest.inputs.values())
    return Known(sys.intern(manifest.stage), tuple(inputs), tuple(file.path for file in manifest.files))


def is_manifest(file: StoredObject) -> bool:
    """Whether a file makes others an artifact."""
    return file.path.endswith("/manifest.json")
