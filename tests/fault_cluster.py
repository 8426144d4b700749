"""A cluster whose parts can be killed, and what a run leaves in its store."""

import contextlib
import json
import subprocess
import time
import urllib.request
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from advfeat.storage import Store
from tests.command import Command
from tests.servers import BUCKET, ObjectStore, PrefectService, RayNodes, Server

Contents = dict[str, list[str]]


@dataclass
class Place:
    """A cluster of two nodes with one core each, S3, and a Prefect server."""

    s3: ObjectStore
    prefect: PrefectService
    ray: RayNodes
    folder: Path
    undisturbed: Contents

    @property
    def variables(self) -> dict[str, str]:
        return {**self.s3.variables, **self.prefect.variables, **self.ray.variables}

    def command(self, store: str) -> Command:
        """Return ``advfeat`` on this cluster, with a store that is a folder's path or a name in S3."""
        folder = self.folder / f"of-{Path(store).name}"
        folder.mkdir(exist_ok=True)
        uri = store if store.startswith("/") else f"s3://{BUCKET}/{store}"
        return Command(folder, {**self.variables, "ADVFEAT_STORE": uri})

    def computations(self, run: str) -> Counter[str]:
        """Count how often each stage of a flow run was begun."""
        return Counter(title for title, _ in self.beginnings(run))

    def beginnings(self, run: str) -> list[tuple[str, datetime]]:
        """Return which stage of a flow run was begun when, as the workers told Prefect.

        A worker that is killed may take its last two seconds of telling with it.
        """
        request = urllib.request.Request(
            f"{self.prefect.variables['PREFECT_API_URL']}/logs/filter",
            data=json.dumps({"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Basic {self._credentials()}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            entries = json.load(answer)
        return [
            (title, datetime.fromisoformat(entry["timestamp"]))
            for entry in entries
            for title, computing, _ in [entry["message"].partition(": computing on")]
            if computing
        ]

    def workers_at(self, stage: str) -> list[psutil.Process]:
        """Return the Ray workers of this cluster that compute a stage of this kind now."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if " ".join(process.info["cmdline"] or ()).strip() == f"ray::{stage}":
                with contextlib.suppress(psutil.NoSuchProcess):
                    if self._nodes_over(process):
                        found.append(process)
        return found

    def node_of(self, worker: psutil.Process) -> Server:
        """Return the node whose raylet started a worker."""
        return self._nodes_over(worker)[0]

    def _nodes_over(self, worker: psutil.Process) -> list[Server]:
        parents = {parent.pid for parent in worker.parents()}
        return [node for node in self.ray.workers if node.process and node.process.pid in parents]

    def _credentials(self) -> str:
        return b64encode(self.prefect.variables["PREFECT_API_AUTH_STRING"].encode()).decode()


@contextlib.contextmanager
def store_of(command: Command) -> Iterator[Store]:
    """Open a command's store in this process."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in command.extra.items():
            if name.startswith("AWS_"):
                environment.setenv(name, value)
        yield Store(command.extra["ADVFEAT_STORE"])


def contents(command: Command) -> Contents:
    """Return the SHA-256 of every payload file of every artifact; all must be intact."""
    found = {}
    with store_of(command) as store:
        for digest in store.digests():
            assert store.verify(digest) is None
            manifest = store.manifest(digest)
            if manifest.stage not in ("report", "grid_report"):  # they hold the time they took
                found[digest] = [file.sha256 for file in manifest.files]
    return found


def artifacts(command: Command) -> int:
    """Count the artifacts that are in the store now."""
    with store_of(command) as store:
        return len(store.digests())


def finish(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Wait for a run to end well and return its result."""
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    result: dict[str, Any] = json.loads(stdout)
    return result


def wait_until(condition: Callable[[], Any], process: "subprocess.Popen[str] | None" = None) -> Any:
    """Wait until a condition holds, while a run goes on; return what it gave."""
    deadline = time.monotonic() + 240
    while not (found := condition()):
        assert process is None or process.poll() is None, "the run ended before the fault"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found
