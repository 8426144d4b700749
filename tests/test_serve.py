"""What serves the deployments ends when it is told to."""

import subprocess
import sys

from tests.command import unconfigured

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
