"""The store, on disk and on a real S3 server: whole artifacts or none, and every damage is found."""

import errno
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advfeat.cluster.embedded import WITHOUT_PROXY
from advfeat.errors import DamagedArtifactError, InputError, MissingArtifactError
from advfeat.storage import Manifest, Stage, Store
from tests.servers import BUCKET

STAGE = Stage(kind="leakage", title="leakage", parameters={"eps": 0.5}, inputs={})
CONTENT = bytes(range(256)) * 64


def write(store: Store, content: bytes = CONTENT, stage: Stage = STAGE) -> str:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "payload.bin").write_bytes(content)
        return {"test_accuracy": 0.5}

    return store.write_stage(stage, build).digest


def only_file(store: Store) -> str:
    (file,) = store.manifest(STAGE.digest).files
    return f"{store.root}/artifacts/{STAGE.digest}/{file.path}"


def manifest_path(store: Store) -> str:
    return f"{store.root}/artifacts/{STAGE.digest}/manifest.json"


def test_what_is_written_is_read(store: Store) -> None:
    digest = write(store)
    assert digest == STAGE.digest
    assert store.read(digest, "payload.bin") == CONTENT
    manifest = store.manifest(digest)
    assert manifest.parameters == {"eps": 0.5}
    assert manifest.metrics == {"test_accuracy": 0.5}
    assert manifest.bytes == len(CONTENT)
    assert manifest.versions.keys() >= {"advfeat", "torch", "numpy", "pyarrow", "safetensors"}
    assert store.verify(digest) is None
    assert store.state(digest)[0] == manifest
    assert store.digests() == [digest]


def test_nothing_overwrites_an_artifact(store: Store) -> None:
    write(store)
    write(store, b"something else")
    assert store.read(STAGE.digest, "payload.bin") == CONTENT


def test_an_absent_artifact_is_absent(store: Store) -> None:
    assert store.find(STAGE.digest) is None
    assert store.digests() == []
    assert list(store.manifests()) == []
    with pytest.raises(MissingArtifactError):
        store.read(STAGE.digest, "payload.bin")


def test_of_many_writers_one_wins_and_all_read_its_bytes(store: Store) -> None:
    together = threading.Barrier(6)

    def race(number: int) -> bytes:
        def build(folder: Path) -> dict[str, Any]:
            (folder / "payload.bin").write_bytes(bytes([number]) * 1000)
            together.wait(30)  # all have built before anybody publishes
            return {}

        store.write_stage(STAGE, build)
        return store.read(STAGE.digest, "payload.bin")

    with ThreadPoolExecutor(6) as pool:
        read = set(pool.map(race, range(6)))
    assert len(read) == 1
    assert store.verify(STAGE.digest) is None


@given(place=st.integers(0, len(CONTENT) - 1), bit=st.integers(0, 7))
def test_verify_finds_any_flipped_bit(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    store = Store(str(tmp_path_factory.mktemp("store")))
    write(store)
    damaged = bytearray(CONTENT)
    damaged[place] ^= 1 << bit
    Path(only_file(store)).write_bytes(damaged)
    assert "SHA-256" in str(store.verify(STAGE.digest))
    with pytest.raises(DamagedArtifactError):
        store.read(STAGE.digest, "payload.bin")


@pytest.mark.parametrize("damage", ["shorter", "gone"])
def test_a_damaged_payload_is_told_and_computed_again(store: Store, damage: str) -> None:
    write(store)
    path = only_file(store)
    if damage == "shorter":
        store.fs.pipe_file(path, CONTENT[:-1])
    else:
        store.fs.rm_file(path)
    manifest, loss = store.state(STAGE.digest)
    assert manifest is None
    assert str(loss).startswith("damaged: payload-")
    assert store.verify(STAGE.digest) is not None
    write(store)
    assert store.read(STAGE.digest, "payload.bin") == CONTENT
    assert store.verify(STAGE.digest) is None


@pytest.mark.parametrize("path_of", [manifest_path, only_file])
@pytest.mark.parametrize("holds", ["nothing", "a file"])
def test_a_folder_in_a_files_place_is_damage_and_makes_room(
    local_store: Store, path_of: Callable[[Store], str], holds: str
) -> None:
    write(local_store)
    path = Path(path_of(local_store))
    path.unlink()
    path.mkdir()
    if holds == "a file":
        (path / "mine.txt").write_text("mine")
    told = f"{path.name} is not a regular file"
    assert local_store.verify(STAGE.digest) == told
    assert local_store.state(STAGE.digest) == (None, f"damaged: {told}")
    with pytest.raises(DamagedArtifactError, match=f"^{re.escape(told)}$"):
        local_store.read(STAGE.digest, "payload.bin")
    write(local_store)
    assert local_store.read(STAGE.digest, "payload.bin") == CONTENT
    assert local_store.verify(STAGE.digest) is None
    assert local_store.digests() == [STAGE.digest]
    kept = [entry.read_text() for entry in path.parent.rglob("mine.txt")]
    assert kept == (["mine"] if holds == "a file" else []), "what somebody put there is not deleted"
    assert len(list(path.parent.iterdir())) == 2 + len(kept)


def test_a_folder_as_large_as_the_file_is_damage_too(local_store: Store, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    write(local_store, bytes((tmp_path / "folder").stat().st_size))
    path = Path(only_file(local_store))
    path.unlink()
    path.mkdir()
    assert "not a regular file" in str(local_store.state(STAGE.digest)[1])


def test_what_is_no_artifact_replaces_a_folder_too(local_store: Store) -> None:
    for path in (f"{local_store.checkpoints}/x", f"{local_store.root}/collecting"):
        Path(path).mkdir(parents=True)
        local_store.put(path, b"state")
        assert local_store.get(path, 10) == b"state"


def test_a_changed_payload_of_the_same_size_is_told_before_it_is_used(local_store: Store) -> None:
    write(local_store)
    Path(only_file(local_store)).write_bytes(CONTENT[::-1])
    manifest, loss = local_store.state(STAGE.digest)
    assert manifest is None
    assert "SHA-256" in str(loss)


@pytest.mark.parametrize(
    ("field", "value"),
    [("metrics", {"test_accuracy": 0.99}), ("parameters", {"eps": 8.0}), ("digest", "0" * 64), ("files", [])],
)
def test_verify_finds_an_edited_manifest(store: Store, field: str, value: object) -> None:
    write(store)
    content = json.loads(store.fs.cat_file(manifest_path(store)))
    store.fs.pipe_file(manifest_path(store), json.dumps(content | {field: value}).encode())
    assert "manifest.json" in str(store.verify(STAGE.digest))
    assert store.state(STAGE.digest)[0] is None


def test_verify_finds_a_manifest_that_was_edited_and_sealed_again(store: Store) -> None:
    write(store)
    forged = store.manifest(STAGE.digest).model_copy(update={"parameters": {"eps": 8.0}}).sealed()
    store.fs.pipe_file(manifest_path(store), forged.model_dump_json().encode())
    assert "does not belong to its digest" in str(store.verify(STAGE.digest))


@given(st.binary(max_size=200))
def test_no_bytes_make_a_manifest_that_reading_trips_over(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    store = Store(str(tmp_path_factory.mktemp("store")))
    folder = Path(store.root) / "artifacts" / STAGE.digest
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(content)
    assert "unreadable" in str(store.verify(STAGE.digest))
    assert list(store.manifests()) == []


def test_a_manifest_cannot_point_out_of_its_folder() -> None:
    with pytest.raises(ValueError, match="path"):
        Manifest.model_validate_json(
            json.dumps(
                {
                    "stage": "dataset",
                    "version": 1,
                    "digest": "0" * 64,
                    "parameters": {},
                    "inputs": {},
                    "files": [{"name": "a", "path": "../../a", "bytes": 1, "sha256": "0" * 64}],
                    "metrics": {},
                    "versions": {},
                    "seconds": 0,
                    "created": "",
                }
            )
        )


def test_a_killed_writer_leaves_nothing_to_be_seen(tmp_path: Path) -> None:
    program = """
import os, signal, sys
from pathlib import Path
from advfeat.storage.store import Store
from tests.test_store import STAGE
def build(folder):
    (folder / "a.bin").write_bytes(b"a" * 1000)
    (folder / "b.bin").write_bytes(b"b" * 1000)
    return {}
store = Store(sys.argv[1])
upload = store._upload
def upload_then_die(digest, path):
    upload(digest, path)
    os.kill(os.getpid(), signal.SIGKILL)
store._upload = upload_then_die
store.write_stage(STAGE, build)
"""
    store = Store(str(tmp_path / "store"))
    variables = os.environ | {"TMPDIR": str(tmp_path)}  # what it has begun to write stays there
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "store")], env=variables, check=False
    )
    assert done.returncode == -9
    assert list(Path(store.root).rglob("a-*.bin")), "it was killed after its first file"
    assert store.find(STAGE.digest) is None
    assert store.digests() == []
    write(store)
    assert store.verify(STAGE.digest) is None


def test_the_start_of_a_digest_is_enough(local_store: Store) -> None:
    digest = write(local_store)
    assert local_store.resolve(digest[:8]) == digest
    with pytest.raises(InputError, match="names no artifact"):
        local_store.resolve("zz")


def test_a_moved_store_is_the_same_store(local_store: Store, tmp_path: Path) -> None:
    write(local_store)
    Path(local_store.root).rename(tmp_path / "elsewhere")
    moved = Store(str(tmp_path / "elsewhere"))
    assert moved.read(STAGE.digest, "payload.bin") == CONTENT
    assert moved.state(STAGE.digest)[0] is not None


def test_a_file_system_without_hard_links_is_refused_before_anything_starts(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_store.check_writable()

    def as_on_exfat(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", as_on_exfat)
    with pytest.raises(
        InputError, match=r"without hard links \(.*Operation not permitted\); choose a folder"
    ):
        local_store.check_writable()
    assert list(Path(local_store.root).iterdir()) == []


def test_a_signed_address_opens_one_page_in_a_browser_without_keys(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    store = Store(f"s3://{BUCKET}/{tmp_path.name}")

    def build(folder: Path) -> dict[str, Any]:
        (folder / "report.html").write_bytes(CONTENT)
        (folder / "rows.json").write_bytes(b"{}")
        return {}

    store.write_stage(STAGE, build)
    address = store.address(STAGE.digest, "report.html")
    assert address is not None
    with WITHOUT_PROXY.open(address) as answer:
        assert answer.read() == CONTENT
        assert answer.headers.get_content_type() == "text/html", "a browser would save it as a file"
    page, other = (file.path for file in store.manifest(STAGE.digest).files)
    assert page in address
    for refused in (address.split("?")[0], address.replace(page, other)):
        with pytest.raises(HTTPError, match="403"):
            WITHOUT_PROXY.open(refused)


def test_wrong_keys_are_one_clear_error(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (s3 | {"AWS_SECRET_ACCESS_KEY": "wrong"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        InputError, match=r"^store: 's3://advfeat/x' cannot be written .*AWS_SECRET_ACCESS_KEY"
    ):
        Store("s3://advfeat/x").check_writable()
