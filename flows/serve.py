"""``python -m advfeat.flows.serve``: offers the main job and every recipe in a Prefect server's pages.

It polls the server that the environment names and runs flows in processes beside itself, on the Ray
cluster and the store that the environment names.
"""

import asyncio
import os
import time
from contextlib import suppress
from typing import Any

from advfeat.cluster.embedded import prepare_local_ray

os.environ.setdefault("PREFECT_RUNNER_POLL_FREQUENCY", "2")  # seconds until a submitted run is seen
if not os.environ.get("RAY_ADDRESS"):
    prepare_local_ray()  # the runs inherit its token, which must be there before Ray is imported

from prefect.client.orchestration import get_client
from prefect.runner import Runner

from advfeat.cluster.services import LOCAL
from advfeat.flows.deployments import as_switched, drop_earlier_local, grids, main_job

_START_SECONDS = 120.0
_POLL_SECONDS = 0.2


class Served(Runner):
    """Offers deployments until SIGTERM.

    Prefect's own raises ``SystemExit`` wherever the signal finds it, which is lost in a callback of the
    garbage collector: it went on as if nothing had been.
    """

    async def until_terminated(self) -> None:
        """Serve what was added, and end at SIGTERM."""
        self._serving = asyncio.ensure_future(self.start())
        with suppress(asyncio.CancelledError):
            await self._serving

    def handle_sigterm(self, *_: Any, **__: Any) -> None:
        """End between two steps of the event loop."""
        self._serving.get_loop().call_soon_threadsafe(self._serving.cancel)


def wait_for_server() -> None:
    """Wait until the Prefect server answers: it may start at the same time. Raises why it does not."""
    deadline = time.monotonic() + _START_SECONDS
    with get_client(sync_client=True) as client:
        while (problem := client.api_healthcheck()) is not None:
            if time.monotonic() > deadline:
                raise problem
            time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    store = os.environ["ADVFEAT_STORE"]
    deployments = [main_job(LOCAL, store), *grids(LOCAL, store)]
    wait_for_server()
    runner = Served(
        pause_on_shutdown=False
    )  # what is paused, people have paused; the server may be gone by then
    for deployment in as_switched(deployments):
        runner.add_deployment(deployment)
    drop_earlier_local()
    with suppress(KeyboardInterrupt):
        asyncio.run(runner.until_terminated())
