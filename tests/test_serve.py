"""What serves the deployments ends when it is told to, and leaves what people have switched."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule
from prefect.exceptions import ObjectNotFound

from advfeat.planning.forms import GRIDS
from tests.command import unconfigured
from tests.servers import prefect_client

# What a destructor raises is lost.
TERMINATED_IN_A_DESTRUCTOR = """
import asyncio, signal
from advfeat.flows.serve import Served

class Dying:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

async def serve():
    asyncio.get_running_loop().call_later(2, Dying)
    await Served(pause_on_shutdown=False).until_terminated()
    print("ended")

asyncio.run(serve())
"""


def test_a_sigterm_that_arrives_where_exceptions_are_lost_is_not(prefect_api: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED_IN_A_DESTRUCTOR],
        env={**unconfigured(), **prefect_api},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr


def test_schedules_of_its_users_and_what_they_paused_stay_when_it_starts_again(
    prefect_api: dict[str, str], tmp_path: Path
) -> None:
    yearly: list[tuple[SCHEDULE_TYPES, bool]] = [(CronSchedule(cron="0 0 1 1 *"), True)]
    with prefect_client(prefect_api) as client:
        with serving(prefect_api, tmp_path, client):
            before = served(client, "clean")
            assert before is not None
            client.create_deployment_schedules(before.id, yearly)
            client.pause_deployment(before.id)
        with serving(prefect_api, tmp_path, client):
            after = served(client, "clean")
        assert after is not None
        assert (after.id, after.paused, len(after.schedules)) == (before.id, True, 1)
        client.delete_deployment(after.id)  # others expect it as it is made


@contextmanager
def serving(api: dict[str, str], folder: Path, client: SyncPrefectClient) -> Iterator[None]:
    """Serve the deployments, all of them made anew."""
    last = list(GRIDS)[-1]
    earlier = served(client, last)
    environment = {**unconfigured(), **api, "ADVFEAT_STORE": str(folder / "store")}
    process = subprocess.Popen([sys.executable, "-m", "advfeat.flows.serve"], env=environment, cwd=folder)
    try:
        deadline = time.monotonic() + 240
        while (now := served(client, last)) is None or (earlier and now.updated == earlier.updated):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(60)


def served(client: SyncPrefectClient, recipe: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(f"{recipe}/{recipe}-local")
    except ObjectNotFound:
        return None
