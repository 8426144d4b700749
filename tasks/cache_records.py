"""Prefect's cache records, which lie in the store: of what is read there the result alone counts.

A record says by which serializer it wants to be read, and Prefect does as it says: one that names pickle,
or a function for JSON objects, would run what it holds.
"""

from hashlib import sha256
from typing import Any

from prefect.filesystems import WritableFileSystem
from prefect.results import ResultStore
from prefect.serializers import JSONSerializer
from pydantic import BaseModel, ConfigDict

from advfeat.storage import ArtifactRef, Store

# Plain JSON: no class of a record in the store is ever imported or built.
PLAIN_JSON = JSONSerializer(object_encoder=None, object_decoder=None)

_MAX_RECORD_BYTES = 1 << 20


class CacheRecords(WritableFileSystem):
    """Where Prefect keeps the cache records of a store, each under the digest of its stage."""

    _block_type_name = "advfeat cache records"
    _block_type_slug = "advfeat-cache-records"

    store: str

    def read_path(self, path: str, **_: Any) -> bytes:  # type: ignore[override]  # Prefect takes either kind
        """Return the record of a stage, made anew of the reference to its artifact.

        Raises ``ValueError`` if it holds no such reference, ``DamagedArtifactError`` if it is no file of its
        kind: Prefect takes either for a missing record.
        """
        place = Store(self.store)
        content = place.get(f"{place.cache}/{path}", _MAX_RECORD_BYTES)
        reference = ArtifactRef.model_validate_json(_Record.model_validate_json(content).result)
        if reference.digest != path:
            raise ValueError(f"the record of {path} is one of {reference.digest}")
        records = ResultStore(result_storage=self, serializer=PLAIN_JSON)
        return records.create_result_record(reference.model_dump(mode="json"), key=path).serialize()

    def write_path(self, path: str, content: bytes, **_: Any) -> None:  # type: ignore[override]
        """Write the record of a stage, in place of an earlier one."""
        place = Store(self.store)
        place.put(f"{place.cache}/{path}", content)


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore")

    result: str


def cache_records(store: Store) -> CacheRecords:
    """Return where Prefect keeps the cache records of a store, known to its server."""
    records = CacheRecords(store=store.uri)
    records.save(f"advfeat-{sha256(store.uri.encode()).hexdigest()[:16]}", overwrite=True)
    return records
