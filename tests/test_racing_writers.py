"""Several writers of one artifact: one wins, all see the same bytes; on servers of every kind."""

import http.client
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import s3fs

from advfeat.errors import DamagedArtifactError
from advfeat.storage import Manifest, Stage, Store
from tests.servers import BUCKET, s3_client

STAGE = Stage(kind="leakage", title="leakage", parameters={"eps": 0.5}, inputs={})
WRITERS = 3
WRITER = """
import hashlib, sys, time
from pathlib import Path
from advfeat.storage.stage import Stage
from advfeat.storage.store import Store
uri, meeting, number, writers = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
stage = Stage(kind="leakage", title="leakage", parameters={"eps": 0.5}, inputs={})
def build(folder):
    (folder / "payload.bin").write_bytes(bytes([number]) * 300_000)
    (meeting / str(number)).touch()
    while len(list(meeting.iterdir())) < writers:
        time.sleep(0.001)
    return {"writer": number}
store = Store(uri)
told = store.write_stage(stage, build)
print(told.metrics["writer"], hashlib.sha256(store.read(stage.digest, "payload.bin")).hexdigest())
"""


def test_of_racing_processes_one_wins_and_all_see_its_bytes(store: Store, tmp_path: Path) -> None:
    (meeting := tmp_path / "meeting").mkdir()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, store.uri, str(meeting), str(number), str(WRITERS)],
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        for number in range(WRITERS)
    ]
    seen = {racer.communicate(timeout=100)[0] for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * WRITERS
    (answer,) = seen
    assert int(answer.split()[0]) == store.manifest(STAGE.digest).metrics["writer"]
    assert store.verify(STAGE.digest) is None


@contextmanager
def in_front_of(endpoint: str, refuses: bool, client: s3fs.S3FileSystem) -> Iterator[tuple[str, list[str]]]:
    """Serve as an S3 server that refuses the condition of a write, or else one that passes over it.

    All else is handed on to a real server. Give the address, and the keys that were written on a condition.
    """
    conditional: list[str] = []
    server = urlsplit(endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def hand_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("If-None-Match"):
                conditional.append(self.path)
                if refuses:
                    self.answer(501, [], b"<Error><Code>NotImplemented</Code></Error>")
                    return
                if client.exists(written := self.path.lstrip("/")):
                    client.rm(written)
            connection = http.client.HTTPConnection(server)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            self.answer(response.status, response.getheaders(), response.read())

        def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            length = dict(headers).get("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = hand_on  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}", conditional
        finally:
            proxy.shutdown()


@pytest.mark.parametrize("refuses", [True, False], ids=["refused", "passed over"])
def test_a_server_without_conditional_writes_is_told_and_used_all_the_same(
    refuses: bool,
    s3: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    uri = f"s3://{BUCKET}/{tmp_path.name}"
    Store(uri).check_writable()
    assert "conditional" not in caplog.text
    with in_front_of(s3["AWS_ENDPOINT_URL"], refuses, s3_client(s3)) as (address, conditional):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        s3fs.S3FileSystem.clear_instance_cache()
        store = Store(uri)
        store.check_writable()
        assert "lacks conditional writes" in caplog.text
        conditional.clear()

        def build(folder: Path) -> dict[str, Any]:
            (folder / "payload.bin").write_bytes(b"first")
            return {}

        def build_too_late(folder: Path) -> dict[str, Any]:
            store.write_stage(STAGE, build)  # another writer publishes meanwhile
            (folder / "payload.bin").write_bytes(b"second")
            return {}

        store.write_stage(STAGE, build_too_late)
        assert store.read(STAGE.digest, "payload.bin") == b"first"
        assert store.verify(STAGE.digest) is None
        assert len(conditional) == 1, "what is there already is not even tried"


def test_a_damaged_artifact_stays_until_its_replacement_is_there(store: Store) -> None:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "payload.bin").write_bytes(b"whole")
        return {}

    def build_in_vain(folder: Path) -> dict[str, Any]:
        (folder / "payload.bin").write_bytes(b"half of it")
        raise DamagedArtifactError("an input is damaged too")

    store.write_stage(STAGE, build)
    (file,) = store.manifest(STAGE.digest).files
    store.put(f"{store.root}/artifacts/{STAGE.digest}/{file.path}", b"damaged")
    with pytest.raises(DamagedArtifactError):
        store.write_stage(STAGE, build_in_vain)
    assert store.manifest(STAGE.digest).files == (file,)
    store.write_stage(STAGE, build)
    assert store.read(STAGE.digest, "payload.bin") == b"whole"
    assert store.state(STAGE.digest)[0] is not None


@pytest.mark.parametrize("loss", ["damaged", "deleted"])
def test_what_another_writer_published_meanwhile_stays(store: Store, loss: str) -> None:
    def build(content: bytes) -> Callable[[Path], dict[str, Any]]:
        def write(folder: Path) -> dict[str, Any]:
            (folder / "payload.bin").write_bytes(content)
            return {}

        return write

    store.write_stage(STAGE, build(b"lost"))
    if loss == "damaged":
        (file,) = store.manifest(STAGE.digest).files
        store.put(f"{store.root}/artifacts/{STAGE.digest}/{file.path}", b"damaged")
    else:
        store.put(f"{store.cache}/{STAGE.digest}", b"{}")
        store.fs.rm(f"{store.root}/artifacts/{STAGE.digest}", recursive=True)
    assert str(store.state(STAGE.digest)[1]).startswith(loss)

    def build_too_late(folder: Path) -> dict[str, Any]:
        store.write_stage(STAGE, build(b"first"))
        published.append(store.manifest(STAGE.digest))
        return build(b"second")(folder)

    published: list[Manifest] = []
    told = store.write_stage(STAGE, build_too_late)
    assert [store.manifest(STAGE.digest)] == published
    assert told == published[0].reference(store.artifact_uri(STAGE.digest))
    assert store.read(STAGE.digest, "payload.bin") == b"first"
