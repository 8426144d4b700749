"""Real servers for tests, on free loopback ports, ended with the test: S3, Prefect and Ray."""

import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import s3fs
from botocore.exceptions import BotoCoreError
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from advfeat.cluster import object_store as seaweed
from advfeat.cluster.embedded import PREFECT_ON_SQLITE, SERVER_SETTINGS, WITHOUT_PROXY
from advfeat.cluster.private_files import private_folder, write_private
from tests.command import EVEN_RAY, unconfigured

BUCKET = "advfeat"
OF_READER = "of-the-reader"
"""A bucket of who may read ``BUCKET`` and not write it."""
_START_SECONDS = 120.0


@dataclass
class Server:
    """A server process that can be killed and started again with the same data on the same port."""

    command: list[str]
    log: Path
    answers: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("wb") as log:  # what an earlier start wrote must not be read as this one's
            self.process = subprocess.Popen(
                self.command, env={**unconfigured(), **self.environment}, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            assert self.process.poll() is None, self.log.read_text()
            if time.monotonic() > deadline:
                raise TimeoutError(self.log.read_text())
            time.sleep(0.2)

    def kill(self) -> None:
        """End it and all that it started at once, as a power cut would."""
        if self.process is None:
            return
        descendants = _descendants(self.process.pid)
        self.process.kill()
        for process in descendants:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()
        self.process = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start it, and end it with the block."""
        try:
            self.start()
            yield
        finally:
            self.kill()


@dataclass
class ObjectStore:
    """SeaweedFS with S3 and a bucket.

    ``variables`` lead to it, ``reader`` with keys that only read there, ``inside`` to its filer.
    """

    server: Server
    variables: dict[str, str]
    reader: dict[str, str]
    folder: Path
    inside: str


def object_store(folder: Path, volumes: int = 20) -> ObjectStore:
    """Lay out a SeaweedFS whose data lie in ``folder``, on so many volumes of 64 MB, a few more or less."""
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    (data := folder / "data").mkdir(parents=True)
    seaweed.write_configuration(folder, access_key, secret_key)
    names = [*seaweed.PARTS, *(f"{part}.grpc" for part in seaweed.PARTS)]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [*seaweed.command(folder, data, ports, volumes=volumes, volume_megabytes=64)]
    variables = {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    reader = variables | _add_reader(folder / "s3.json")
    server = Server(command, folder / "weed.log", lambda: _has_bucket(variables))
    inside = f"http://127.0.0.1:{ports['filer']}.{ports['filer.grpc']}/buckets/{BUCKET}/"
    return ObjectStore(server, variables, reader, folder, inside)


def _add_reader(file: Path) -> dict[str, str]:
    """Let a second user read the bucket; return the variables with the keys."""
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    identity = {
        "name": "reader",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": [
            f"Read:{BUCKET}",
            f"List:{BUCKET}",
            *(f"{a}:{OF_READER}" for a in ("Read", "List", "Write")),
        ],
    }
    content = json.loads(file.read_text())
    file.write_text(json.dumps({"identities": [*content["identities"], identity]}))
    return {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}


@contextlib.contextmanager
def seaweedfs(folder: Path, volumes: int = 20) -> Iterator[dict[str, str]]:
    """Start SeaweedFS with S3 and an empty bucket; give the AWS variables that lead to it."""
    store = object_store(folder, volumes)
    with store.server.running():
        yield store.variables


def s3_client(variables: dict[str, str]) -> s3fs.S3FileSystem:
    """Return a client for the server that the variables lead to."""
    return s3fs.S3FileSystem(
        key=variables["AWS_ACCESS_KEY_ID"],
        secret=variables["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def make_prefect_database(folder: Path) -> None:
    """Make an empty ``prefect.db`` in a folder, by Prefect's own command."""
    command = [_beside_python("prefect"), "--no-prompt", "server", "database", "upgrade", "-y"]
    environment = {**unconfigured(), "PREFECT_HOME": str(folder)}
    subprocess.run(command, env=environment, check=True, capture_output=True)


def give_prefect_database(home: Path, database: Path) -> None:
    """Lay a database where the embedded server of ``home`` looks for it."""
    shutil.copy(database, private_folder(private_folder(home / "prefect") / "0"))


@dataclass
class PrefectService:
    """A Prefect server with basic authentication; ``variables`` lead to it."""

    server: Server
    variables: dict[str, str]


def prefect_service(folder: Path) -> PrefectService:
    """Lay out a Prefect server whose data lie in ``folder``, as an administrator would."""
    folder.mkdir(exist_ok=True)
    (port,) = free_ports(1)
    credentials = f"advfeat:{secrets.token_hex(16)}"
    command = [sys.executable, "-m", *PREFECT_ON_SQLITE, "server", "start"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    settings = SERVER_SETTINGS | {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_API_AUTH_STRING": credentials,
        "PREFECT_SERVER_UI_API_URL": (url := f"http://127.0.0.1:{port}/api"),
    }
    server = Server(command, folder / "prefect.log", lambda: _answers_http(f"{url}/health"), settings)
    return PrefectService(server, {"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": credentials})


def prefect_client(variables: Mapping[str, str]) -> SyncPrefectClient:
    """Return a client of the Prefect server that the variables lead to."""
    return SyncPrefectClient(variables["PREFECT_API_URL"], auth_string=variables["PREFECT_API_AUTH_STRING"])


def prefect_settings(variables: Mapping[str, str]) -> contextlib.AbstractContextManager[object]:
    """Point this process to the Prefect server that the variables lead to."""
    return temporary_settings(
        {
            PREFECT_API_URL: variables["PREFECT_API_URL"],
            PREFECT_API_AUTH_STRING: variables["PREFECT_API_AUTH_STRING"],
        }
    )


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Start MLflow's server on a new SQLite database; give its URI.

    It is started as ``mlflow server`` does, which itself is another process that takes as long to import.
    """
    (port,) = free_ports(1)
    app = ("mlflow.server.fastapi_app:app", "--host", "127.0.0.1", "--port", str(port))
    settings = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder / 'mlflow.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", *app]
    with Server(command, folder / "mlflow.log", lambda: _answers_http(f"{uri}/health"), settings).running():
        yield uri


@dataclass
class RayNodes:
    """A Ray cluster of several nodes on this machine; the head takes no work unless it has cores."""

    head: Server
    workers: list[Server]
    variables: dict[str, str]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start the head, then the other nodes, and end all with the block."""
        with contextlib.ExitStack() as stack:
            for node in (self.head, *self.workers):
                stack.enter_context(node.running())
            yield


def ray_nodes(
    folder: Path, head_cores: int, worker_cores: list[int], worker_gpus: Sequence[Sequence[int]] = ()
) -> RayNodes:
    """Lay out a Ray cluster as an administrator would: one token for all, a lost node found soon.

    ``worker_gpus`` are the numbers of the GPUs that nodes say they have. Nothing looks whether they are
    there: on numbers that no machine has, stages compute as without a GPU.
    """
    folder.mkdir(exist_ok=True)
    token = folder / "ray_token"
    write_private(token, secrets.token_hex(32))
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    health = {
        "RAY_health_check_initial_delay_ms": "2000",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "5000",
        "RAY_health_check_failure_threshold": "5",
    }

    def node(name: str, cores: int, *options: str, gpus: Sequence[int] = ()) -> Server:
        command = [
            *(_beside_python("ray"), "start", "--block", "--disable-usage-stats", f"--num-cpus={cores}"),
            *("--node-ip-address=127.0.0.1", "--object-store-memory=100000000", *options),
            *(f"--num-gpus={len(gpus)}", "--include-log-monitor=false"),
        ]
        log, seen = folder / f"{name}.log", {"CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))}
        return Server(command, log, lambda: _started(log, port), variables | health | EVEN_RAY | seen)

    lean = ("--include-dashboard=false", "--no-monitor")
    head = node("head", head_cores, "--head", f"--port={port}", *lean)
    gpus = dict(enumerate(worker_gpus))
    workers = [
        node(f"node{number}", cores, f"--address={address}", gpus=gpus.get(number, ()))
        for number, cores in enumerate(worker_cores)
    ]
    return RayNodes(head, workers, variables | {"RAY_ADDRESS": address})


@contextlib.contextmanager
def ray_cluster(folder: Path, cores: int) -> Iterator[dict[str, str]]:
    """Start a Ray node as an administrator would; give the variables that lead to it."""
    nodes = ray_nodes(folder, cores, [])
    with nodes.running():
        yield nodes.variables


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _started(log: Path, port: int) -> bool:
    """Tell whether the node of this log joined, which it says, and the head listens."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return "Ray runtime started" in log.read_text()
    return False


def _answers_http(url: str) -> bool:
    try:
        with WITHOUT_PROXY.open(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return bool(error.code == 401)
    except OSError:
        return False


def _has_bucket(variables: dict[str, str]) -> bool:
    try:
        client = s3_client(variables)
        if not client.exists(BUCKET):
            client.mkdir(BUCKET)
        return True
    except (OSError, BotoCoreError):  # it listens a moment before it serves
        return False


def _beside_python(program: str) -> str:
    found = shutil.which(program, path=str(Path(sys.executable).parent))
    assert found is not None, f"{program} is not installed: make .venv/.installed-dev"
    return found
