"""The embedded Prefect server answers several who write at once; see advfeat/cluster/garbage_thread.py."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from advfeat.cluster.embedded import HOME, prefect_server
from tests.servers import give_prefect_database

SECONDS, CLIENTS, LONGEST_ANSWER_SECONDS = 6.0, 4, 20.0
RUNNING = {"state": {"type": "RUNNING", "name": "Running"}, "force": True}


@pytest.fixture
def client(tmp_path: Path, prefect_database: Path) -> Iterator[httpx.Client]:
    """Give a client of an embedded server."""
    give_prefect_database(tmp_path / HOME, prefect_database)
    with prefect_server(tmp_path / HOME) as server:
        url = server.wait_until_ready()
        user, _, password = server.credentials.partition(":")
        with httpx.Client(
            base_url=url, auth=(user, password), timeout=LONGEST_ANSWER_SECONDS, trust_env=False
        ) as client:
            yield client


def made(client: httpx.Client, path: str, what: dict[str, Any]) -> str:
    """Make something and return its ID; a server that just started may be busy with itself."""
    while (answer := client.post(path, json=what)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
        time.sleep(0.1)
    return str(answer.raise_for_status().json()["id"])


@pytest.mark.servers
def test_no_answer_waits_for_what_a_failed_statement_left(client: httpx.Client) -> None:
    flow = made(client, "/flows/", {"name": "busy"})
    run = made(client, "/flow_runs/", {"flow_id": flow, "state": {"type": "RUNNING"}})
    log = {"name": "busy", "level": 20, "message": "hello", "timestamp": "2026-01-01T00:00:00Z"}
    claim = {"slots": 1, "mode": "concurrency", "lease_duration": 60}

    def ask(name: str) -> httpx.Response:
        """Ask as runs do that claim the same stages, tell their states and send their logs."""
        requests: list[tuple[str, str, Any]] = [
            ("POST", f"/flow_runs/{run}/set_state", RUNNING),
            ("POST", "/v2/concurrency_limits/", {"name": name, "limit": 1}),
            ("POST", "/v2/concurrency_limits/increment-with-lease", {"names": [name], **claim}),
            ("DELETE", f"/v2/concurrency_limits/{name}", None),
            ("POST", "/logs/", [{**log, "flow_run_id": str(uuid4())}]),
        ]
        method, path, body = random.choice(requests)
        return client.request(method, path, json=body)

    def ask_again_and_again(_: int) -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            # A request that fails in the server ends its connection; one that is not answered raises.
            with suppress(httpx.ReadError, httpx.RemoteProtocolError):
                assert ask(f"claim-{random.randrange(4)}").status_code != httpx.codes.UNAUTHORIZED

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(ask_again_and_again, range(CLIENTS)))
