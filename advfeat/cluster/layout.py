"""What lies where, on which ports, and with which credentials.

Everything is in one folder (``.advfeat/cluster``) that its owner alone can read: credentials and ports
stay the same from one start to the next. Sockets lie in a short folder of their own, because the
system limits the length of their paths to about 100 bytes.
"""

import random
import secrets
import shlex
import socket
import tempfile
from pathlib import Path
from typing import Self

from pydantic import BaseModel

from advfeat.cluster.embedded import DATABASE_SETTINGS, LOOPBACK, RAY_SETTINGS, SERVER_SETTINGS
from advfeat.cluster.environment import composed, with_readable_proxies
from advfeat.cluster.object_store import PARTS
from advfeat.cluster.private_files import private_folder, write_private
from advfeat.cluster.sockets import socket_place

BUCKET = "advfeat"
MARK = "ADVFEAT_CLUSTER"
"""The variable by which a process of a cluster is known; its value is the cluster's folder."""

_PORT_NAMES = ("prefect", "ray", *PARTS, *(f"{name}.grpc" for name in PARTS))
# Below the ports that systems give to outgoing connections, so that a service that was killed finds
# its port free when it comes back.
_PORTS = range(20_000, 32_000)
_CONFIGURATION = ("PREFECT_", "RAY_", "AWS_", "ADVFEAT_STORE", MARK)


class Credentials(BaseModel):
    """Drawn once for a cluster."""

    prefect: str
    access_key: str
    secret_key: str
    ray_token: str

    @classmethod
    def draw(cls) -> Self:
        """Draw new ones."""
        return cls(
            prefect=f"advfeat:{secrets.token_hex(16)}",
            access_key=secrets.token_hex(10),
            secret_key=secrets.token_hex(20),
            ray_token=secrets.token_hex(32),
        )


class State(BaseModel):
    """What was started last."""

    workers: int
    cores_per_worker: int
    ports: dict[str, int]
    sockets: Path


class Layout:
    """The paths of a cluster, and what its services and users are told."""

    def __init__(self, home: Path) -> None:
        self.folder = home.resolve() / "cluster"
        self.working_folder = home.resolve().parent
        self.configuration = self.folder / "supervisord.conf"
        self.logs = self.folder / "logs"
        self.env = self.folder / "env"
        self.login = self.folder / "login"
        self.ray_token = self.folder / "ray_token"
        self.s3 = self.folder / "s3"
        self.lock = self.folder / "lock"
        self._state = self.folder / "state.json"
        self._credentials = self.folder / "credentials.json"

    def data(self, service: str) -> Path:
        """Return the folder of a service's data."""
        return self.folder / "data" / service

    def log(self, service: str) -> Path:
        """Return the file that takes what a service prints."""
        return self.logs / f"{service}.log"

    def create(self) -> None:
        """Make the folders."""
        for folder in (self.folder, self.logs, self.data("s3"), self.data("prefect")):
            private_folder(folder)

    def credentials(self) -> Credentials:
        """Return the cluster's credentials; they are drawn when first asked for."""
        if not self._credentials.exists():
            write_private(self._credentials, Credentials.draw().model_dump_json())
        return Credentials.model_validate_json(self._credentials.read_bytes())

    def state(self) -> State | None:
        """Return what was started last, if anything ever was."""
        try:
            return State.model_validate_json(self._state.read_bytes())
        except FileNotFoundError:
            return None

    def new_state(self, workers: int, cores_per_worker: int) -> State:
        """Remember what is to be started; ports stay as they were where they are still free."""
        before = self.state()
        state = State(
            workers=workers,
            cores_per_worker=cores_per_worker,
            ports=_free_ports({} if before is None else before.ports),
            sockets=Path(tempfile.mkdtemp(prefix="advfeat-", dir=socket_place())),
        )
        write_private(self._state, state.model_dump_json())
        return state

    def prefect_api(self, state: State) -> str:
        """Return where the cluster's Prefect server is asked."""
        return f"http://{LOOPBACK}:{state.ports['prefect']}/api"

    def variables(self, state: State) -> dict[str, str]:
        """Return the variables that lead a program to the cluster."""
        secret = self.credentials()
        return {
            "PREFECT_API_URL": self.prefect_api(state),
            "PREFECT_API_AUTH_STRING": secret.prefect,
            "RAY_ADDRESS": f"{LOOPBACK}:{state.ports['ray']}",
            **RAY_SETTINGS,
            "RAY_AUTH_TOKEN_PATH": str(self.ray_token),
            "AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{state.ports['s3']}",
            "AWS_ACCESS_KEY_ID": secret.access_key,
            "AWS_SECRET_ACCESS_KEY": secret.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "ADVFEAT_STORE": f"s3://{BUCKET}/store",
        }

    def environment(self, state: State) -> dict[str, str]:
        """Return the environment of the cluster's processes, secrets included."""
        inherited = with_readable_proxies(composed())
        return {
            **{name: value for name, value in inherited.items() if not name.startswith(_CONFIGURATION)},
            **self.variables(state),
            **SERVER_SETTINGS,
            **DATABASE_SETTINGS,
            MARK: str(self.folder),
            "PREFECT_HOME": str(self.data("prefect")),
            "PREFECT_SERVER_API_AUTH_STRING": self.credentials().prefect,
            # Otherwise the server's pages ask port 4200.
            "PREFECT_SERVER_UI_API_URL": self.variables(state)["PREFECT_API_URL"],
            "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
            # A node that is gone is found in seconds, one that hangs within 15.
            "RAY_health_check_initial_delay_ms": "2000",
            "RAY_health_check_period_ms": "2000",
            "RAY_health_check_timeout_ms": "3000",
            "RAY_health_check_failure_threshold": "3",
        }

    def write_env(self, state: State) -> None:
        """Write the file that a shell sources, and the one that is typed into Prefect's pages."""
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in self.variables(state).items()]
        write_private(self.env, "".join(lines))
        write_private(self.login, f"{self.credentials().prefect}\n")


def _free_ports(wanted: dict[str, int]) -> dict[str, int]:
    ports: dict[str, int] = {}
    for name in _PORT_NAMES:
        port = wanted.get(name)
        while port is None or port in ports.values() or not _is_free(port):
            port = random.choice(_PORTS)
        ports[name] = port
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended linger
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
