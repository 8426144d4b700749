"""What Prefect reads from the store runs nothing, whatever its records say of themselves."""

import base64
import contextlib
import json
import pickle
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore

from advfeat.storage import ArtifactRef, Store
from advfeat.tasks.cache_records import PLAIN_JSON, CacheRecords

DIGEST = "a" * 64
REFERENCE = ArtifactRef(digest=DIGEST, stage="images", uri="/s", bytes=1, created="2026", metrics={})
PLAIN = PLAIN_JSON.model_dump()


def records_of(store: Store) -> ResultStore:
    """Open a store's records as a task does, whose block its server knows."""
    block = CacheRecords(store=store.uri)
    block._block_document_id = uuid.uuid4()
    return ResultStore(result_storage=block, serializer=PLAIN_JSON)


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def pickled(trace: Path) -> str:
    return base64.b64encode(pickle.dumps(Touch(trace))).decode()


def naming_pickle(trace: Path) -> dict[str, Any]:
    return {"metadata": {"serializer": {"type": "pickle"}}, "result": pickled(trace)}


def naming_nothing(trace: Path) -> dict[str, Any]:
    return {"metadata": {}, "result": pickled(trace)}


def of_the_old_form(trace: Path) -> dict[str, Any]:
    return {"metadata": {"serializer": PLAIN}, "serializer": {"type": "pickle"}, "data": pickled(trace)}


def naming_a_class(trace: Path) -> dict[str, Any]:
    # Prefect's own way to read JSON imports what a "__class__" names.
    package = trace.parent / f"{trace.name}_package.py"
    package.write_text(f"open({str(trace)!r}, 'w').close()\nclass Made: pass\n")
    result = json.dumps({"__class__": f"{package.stem}.Made", "data": {}})
    return {"metadata": {"serializer": {"type": "json"}}, "result": result}


RECORDS = [naming_pickle, naming_nothing, of_the_old_form, naming_a_class]


@pytest.mark.parametrize("record", RECORDS)
def test_no_record_runs_code(
    record: Callable[[Path], dict[str, Any]],
    local_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    trace = tmp_path / record.__name__
    local_store.put(f"{local_store.cache}/{DIGEST}", json.dumps(record(trace)).encode())
    ours = records_of(local_store)
    assert not ours.exists(DIGEST)
    with pytest.raises(ValueError, match=r"ArtifactRef|result"):
        ours.read(DIGEST)
    assert not trace.exists()
    with contextlib.suppress(Exception):
        ResultStore(result_storage=LocalFileSystem(basepath=local_store.cache)).read(DIGEST)
    assert trace.exists(), "read as Prefect would by itself, it does run"


def test_a_record_is_read_as_it_was_written(store: Store) -> None:
    ours = records_of(store)
    ours.write(REFERENCE.model_dump(mode="json"), key=DIGEST)
    again = records_of(store)
    assert again.exists(DIGEST)
    assert again.read(DIGEST).result == REFERENCE.model_dump(mode="json")
    assert not again.exists("b" * 64)


def test_a_record_under_another_digest_is_none(local_store: Store) -> None:
    ours = records_of(local_store)
    ours.write(REFERENCE.model_dump(mode="json"), key="b" * 64)
    again = records_of(local_store)
    assert not again.exists("b" * 64)
