"""The Ray cluster that the user configured: how to reach it, and what its workers are given.

Workers get this code and the settings of Prefect and the store from the run, so that their image needs
neither. Settings may be secrets: they reach a worker as a function that it runs at its start, not as
the variables of a runtime environment, which Ray writes to logs and shows on its dashboard.
"""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import advfeat
from advfeat.cluster.answers import PATIENCE_SECONDS, check_speaks_grpc, within
from advfeat.cluster.embedded import RAY_NAMESPACE
from advfeat.cluster.termination import sigterm_kept
from advfeat.errors import InputError, first_line

if TYPE_CHECKING:
    from advfeat.flows.walk.late_ray import LateRay

_FORWARDED_PREFIXES = ("PREFECT_", "AWS_", "ADVFEAT_", "DO_NOT_TRACK")
_ADDRESS = re.compile(r"(?P<host>[^\s/]+):(?P<port>\d{1,5})")


def configured_address() -> str | None:
    """Return the address in ``RAY_ADDRESS``; raises ``InputError`` if it cannot be a cluster's."""
    address = os.environ.get("RAY_ADDRESS") or None
    if address is not None and address.startswith("ray://"):
        raise InputError(
            "ray",
            address,
            "is Ray Client, which gives up the work when the network fails for 30 s",
            "run on a node of the cluster and give HOST:PORT of its head (it may be a node without cores)",
        )
    if address is not None and address != "auto" and not _ADDRESS.fullmatch(address):
        raise InputError(
            "ray",
            address,
            "is not an address of a cluster",
            "give HOST:PORT of its head, or unset RAY_ADDRESS for a Ray of this machine",
        )
    return address


def configured_runner() -> "LateRay":
    """Return a task runner on the configured cluster; without one, on a Ray of the run's own.

    It connects once a flow has looked at what it was given.
    A process that is connected to a Ray stays with it: its workers, which import flows too, would take
    another token and no longer be let in.
    """
    from advfeat.flows.walk.late_ray import OWN, LateRay

    if is_connected():
        return LateRay()
    if (address := configured_address()) is not None:
        return LateRay(address, init_arguments())
    return LateRay(OWN)


def is_connected() -> bool:
    """Tell whether this process is connected to a Ray already."""
    if "ray._raylet" not in sys.modules:  # "ray" may be a name that stands for what is not loaded yet
        return False
    import ray

    return bool(ray.is_initialized())


def has_gpus() -> bool:
    """Tell whether the cluster that this process is connected to has GPUs."""
    import ray

    return ray.is_initialized() and bool(ray.cluster_resources().get("GPU"))


@contextlib.contextmanager
def connection(address: str) -> Iterator[None]:
    """Connect this process to a cluster for a while; raises ``InputError`` in one line if that fails."""
    import ray
    from ray.exceptions import RayError

    try:
        within(PATIENCE_SECONDS, lambda: _check_answers(address))
        with sigterm_kept():
            ray.init(address, **init_arguments())
    except (ConnectionError, RuntimeError, ValueError, OSError, RayError) as error:
        problem = first_line(error)
        raise InputError(
            "ray",
            address,
            f"cannot be reached ({problem})",
            "check the address, and that RAY_AUTH_TOKEN_PATH names the cluster's token",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise an error if no head of a Ray answers, or does not let this process in.

    Ray itself would ask for minutes, and not tell why it is refused.
    """
    from ray._private.services import canonicalize_bootstrap_address
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    asked = canonicalize_bootstrap_address(address)  # for this machine's own, its address on the network
    if asked is None or (found := _ADDRESS.fullmatch(asked)) is None:
        raise ConnectionError("no Ray runs on this machine")
    if os.environ.get("RAY_USE_TLS") != "1":
        check_speaks_grpc(found["host"].strip("[]"), int(found["port"]))
    GcsClient(address=asked)


def init_arguments() -> dict[str, Any]:
    """Return what ``ray.init`` is told besides the address."""
    from advfeat.cluster.ray_job import OwnModules

    environment = {
        "py_modules": [advfeat.__path__[0]],
        "worker_process_setup_hook": _settings_of_this_process(),
    }
    return {
        "namespace": RAY_NAMESPACE,
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "runtime_env": environment,
        "job_config": OwnModules(),
    }


def _settings_of_this_process() -> Callable[[], None]:
    settings = {name: value for name, value in os.environ.items() if name.startswith(_FORWARDED_PREFIXES)}

    def take_settings_of_the_run() -> None:
        import os

        os.environ.update(settings)

    return take_settings_of_the_run
