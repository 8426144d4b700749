"""Starts a run from a shell: on what the user configured, else on an embedded server and Ray.

What was configured (a Prefect API, a Ray cluster, a store) is used as it is and never stopped; what
was started here ends here, whatever happens.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from advfeat.errors import InputError
from advfeat.local import HOME, PrefectServer, prefect_server, ray_settings
from advfeat.plan import build_plan, outlook
from advfeat.spec import Experiment
from advfeat.store import Store

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

    from flows.result import RunResult

_FORWARDED_PREFIXES = ("PREFECT_", "AWS_")
_CLIENT_SETTINGS = {
    # Without an address of a server, Prefect would start one in every process: an error is better.
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore",
}


def launch(experiment: Experiment, store: Store) -> "RunResult":
    """Run an experiment to its end and return its result."""
    began = time.monotonic()
    computes = any(entry.state == "compute" for entry in outlook(build_plan(experiment), store))
    with _prefect_api():
        from flows.experiment import learning_from_errors

        flow = learning_from_errors.with_options(task_runner=_task_runner(computes))
        result = flow(experiment, store.uri)
    return result.model_copy(update={"seconds": round(time.monotonic() - began, 1)})


@contextlib.contextmanager
def _prefect_api() -> Iterator[None]:
    """Point this process and those that it starts to a Prefect server that answers."""
    for name, value in _CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
    from prefect.settings import get_current_settings

    configured = get_current_settings().api.url
    if configured:
        os.environ["PREFECT_API_URL"] = configured
        _check_api(configured)
        yield
        return
    with prefect_server() as server, _settings_for(server):
        import flows.experiment  # noqa: F401 - takes seconds in which the server starts

        server.wait_until_ready()
        yield


@contextlib.contextmanager
def _settings_for(server: PrefectServer) -> Iterator[None]:
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    home = (HOME / "prefect").resolve()
    os.environ |= {"PREFECT_API_URL": server.url, "PREFECT_HOME": str(home)}
    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_HOME: home}):
        yield


def _check_api(url: str) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
    if error is not None:
        problem = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            "PREFECT_API_URL", url, f"does not answer ({problem})", "start that server or unset the address"
        )


def _task_runner(computes: bool) -> "TaskRunner[Any]":
    """Choose Ray where something must be computed; cached stages alone need no cluster."""
    if not computes:
        from prefect.task_runners import ThreadPoolTaskRunner

        return ThreadPoolTaskRunner()
    from prefect_ray import RayTaskRunner

    quiet = {"logging_level": "ERROR"}
    address = os.environ.get("RAY_ADDRESS")
    if address:
        forwarded = {
            name: value for name, value in os.environ.items() if name.startswith(_FORWARDED_PREFIXES)
        }
        return RayTaskRunner(address=address, init_kwargs=quiet | {"runtime_env": {"env_vars": forwarded}})
    return RayTaskRunner(init_kwargs=quiet | ray_settings())
