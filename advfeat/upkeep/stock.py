"""What a store holds: its files, from their listing, and what its manifests say."""

from dataclasses import dataclass

from advfeat.storage import Manifest, Store
from advfeat.upkeep.inventory import Inventory, StoredObject, take_inventory


@dataclass(frozen=True)
class Stock:
    """The files of a store at one moment, and its manifests by digest, None for unreadable ones."""

    inventory: Inventory
    manifests: dict[str, Manifest | None]


def take_stock(store: Store) -> Stock:
    """List the files of a store and read every manifest; writes nothing."""
    inventory = take_inventory(store)
    readable = {manifest.digest: manifest for manifest in store.manifests()}
    published = [digest for digest, files in inventory.artifacts.items() if any(map(is_manifest, files))]
    return Stock(inventory, {digest: readable.get(digest) for digest in published})


def is_manifest(file: StoredObject) -> bool:
    """Whether a file makes others an artifact."""
    return file.path.endswith("/manifest.json")
