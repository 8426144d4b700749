"""The embedded default: a Prefect server and Ray settings for one machine and one run.

Everything lives under a home folder (``.advfeat``). Runs side by side each take a server of their
own, in a numbered folder that is theirs by a file lock.
"""

import contextlib
import logging
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from advfeat.cluster.cores import usable_cores
from advfeat.cluster.environment import composed_environment, of_a_server
from advfeat.cluster.private_files import private_folder, write_private
from advfeat.cluster.run_folder import folder_of_run
from advfeat.cluster.termination import sigterm_kept
from advfeat.errors import ServerStartError

HOME = Path(".advfeat")
LOOPBACK = "127.0.0.1"

RAY_NAMESPACE = "prefect"
"""Where actors of a run are found by name: the namespace that Prefect's task runner uses."""

_START_SECONDS = 120.0
_POLL_SECONDS = 0.1
_ERROR = re.compile(r"[\w.]*(?:Error|Exception): ")
_RAY_OBJECT_STORE_BYTES = 256 << 20
WITHOUT_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))

SERVER_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # Kept in memory, as by default, leases are lost with the server and what they hold stays held.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}

DATABASE_SETTINGS = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///prefect.db"}
"""For a server that works in the folder of its database: in a whole path ``?``, ``#`` or ``%`` mean else."""

PREFECT_ON_SQLITE = ("advfeat.cluster.garbage_thread", "prefect")
"""The module that is Prefect's command where it serves a database of SQLite, and its first argument."""

RAY_SETTINGS = {
    "RAY_AUTH_MODE": "token",
    # Where it may be part of a cluster, Ray takes the machine's outward address and listens everywhere.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Its page of metrics asks for no token.
    "RAY_enable_metrics_collection": "0",
}
"""For a Ray of this machine alone."""

_OF_ANY_RAY = {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_BACKEND_LOG_LEVEL"}


class PrefectServer:
    """A Prefect server on a free loopback port, with SQLite in ``folder``; ends with its starter.

    It asks for a user and a password, drawn for it and written to ``login``: what its pages ask for.
    """

    def __init__(self, folder: Path) -> None:
        port = _free_port()
        self.url = f"http://{LOOPBACK}:{port}/api"
        self.credentials = f"advfeat:{secrets.token_hex(16)}"
        self.log = folder / "server.log"
        self.login = folder / "login"
        write_private(self.login, f"{self.credentials}\n")
        # It speaks plain HTTP, but each client, two a task, would load the certificates of all authorities.
        self.certificates = folder.resolve() / "certificates.pem"
        self.certificates.write_text(_one_certificate(), encoding="ascii")
        command = [sys.executable, "-P", "-m", *PREFECT_ON_SQLITE, "server", "start", "--host", LOOPBACK]
        settings = (
            SERVER_SETTINGS
            | DATABASE_SETTINGS
            | {
                "PREFECT_HOME": str(folder.resolve()),
                "PREFECT_SERVER_API_AUTH_STRING": self.credentials,
                "PREFECT_SERVER_UI_API_URL": self.url,  # or its pages ask port 4200
            }
        )
        with self.log.open("wb") as log:
            # A session of its own, so that Ctrl-C reaches the run alone, which then ends the server.
            self._guard = subprocess.Popen(
                [sys.executable, "-P", "-m", "advfeat.cluster.guard", *command, "--port", str(port)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=of_a_server() | settings,
                cwd=folder,  # where its database is; and Prefect takes settings from files of it
                start_new_session=True,
            )

    @property
    def variables(self) -> dict[str, str]:
        """The variables that lead a program to it."""
        return {
            "PREFECT_API_URL": self.url,
            "PREFECT_API_AUTH_STRING": self.credentials,
            "PREFECT_API_SSL_CERT_FILE": str(self.certificates),
        }

    @property
    def pid(self) -> int:
        """The process whose children are the server's."""
        return self._guard.pid

    def wait_until_ready(self) -> str:
        """Wait until the server answers and return its API's address; raises ``ServerStartError``."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._guard.poll() is not None:
                raise ServerStartError(
                    f"the Prefect server ended while starting{self._why()}; see {self.log}"
                )
            if self._answers():
                return self.url
            time.sleep(_POLL_SECONDS)
        raise ServerStartError(f"the Prefect server did not answer in {_START_SECONDS:.0f} s; see {self.log}")

    def _why(self) -> str:
        """Return the last error that the server told, in brackets."""
        told = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in told if _ERROR.match(line)]
        return f" ({errors[-1]})" if errors else ""

    def _answers(self) -> bool:
        try:
            with WITHOUT_PROXY.open(f"{self.url}/health", timeout=5):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """End the server and wait until it is gone."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()
        self.login.unlink(missing_ok=True)


@contextlib.contextmanager
def prefect_server(home: Path = HOME) -> Iterator[PrefectServer]:
    """Start a Prefect server, give it while it may still be starting, and end it at the end."""
    with _own_folder(home / "prefect") as folder:
        server = PrefectServer(folder)
        try:
            yield server
        finally:
            server.stop()


def prepare_local_ray() -> None:
    """Let this process and what it starts know nothing but a Ray of this machine, with a token of its own."""
    forget_other_rays()
    os.environ |= RAY_SETTINGS
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    if "ray._raylet" in sys.modules:  # "ray" may be a name that stands for what is not loaded yet
        _read_ray_settings_again()


def local_ray_arguments(folder: Path) -> dict[str, Any]:
    """Return what ``ray.init`` is told to start a Ray on this machine's cores.

    Its nodes and workers share a token that nobody else knows, listen on the loopback interface alone,
    and keep their sockets and logs in ``folder``, which is for its owner alone.
    """
    prepare_local_ray()
    with _no_hints_for_notebooks():
        from advfeat.cluster.ray_job import OwnModules  # Ray reads those settings when it is imported

    return {
        "address": "local",  # never a cluster that happens to run on this machine
        "namespace": RAY_NAMESPACE,
        "num_cpus": usable_cores(),
        "object_store_memory": _RAY_OBJECT_STORE_BYTES,
        "include_dashboard": False,
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "_temp_dir": str(folder / "ray"),  # Ray itself lets everybody into it
        "job_config": OwnModules(),
    }


@contextlib.contextmanager
def _no_hints_for_notebooks() -> Iterator[None]:
    """Import Ray without its advice to install what its own pictures would need: none is shown."""
    logging.getLogger("ray.widgets").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        yield


def forget_other_rays() -> None:
    """Take from this process, and what it starts, what the user set for another Ray."""
    for name in filter(_configures_another_ray, list(os.environ)):
        del os.environ[name]


def _configures_another_ray(name: str) -> bool:
    """Tell whether a variable says what another Ray is: lower case, as in RAY_worker_niceness, tunes any."""
    return name.startswith("RAY_") and name[4:5].isupper() and name not in _OF_ANY_RAY


def _read_ray_settings_again() -> None:
    """Let Ray forget what the environment said when something first imported it."""
    from ray._private import ray_constants
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    ray_constants.ENABLE_RAY_CLUSTER = False
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def local_ray() -> Iterator[None]:
    """Start a Ray on this machine's cores and end it at the end; see ``local_ray_arguments``.

    Its temporary files, and those of its workers, are gone then.
    """
    with folder_of_run() as folder:
        arguments = local_ray_arguments(folder)
        import ray

        from advfeat.cluster.lean_ray import lean_start

        with composed_environment(), sigterm_kept(), lean_start():
            os.environ["TMPDIR"] = str(folder)  # what a worker that is killed has begun is gone with it
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(HOME.resolve() / "compiled"))
            ray.init(**arguments)
        try:
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _own_folder(parent: Path) -> Iterator[Path]:
    """Take the first numbered folder that no running process holds; nobody else may look into it."""
    for number in count():
        folder = private_folder(private_folder(parent) / str(number))
        lock = FileLock(folder / "lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        try:
            yield folder
        finally:
            lock.release()
        return


def _one_certificate() -> str:
    """Return the first of the certificates that clients trust by default, as PEM."""
    import certifi

    end = "-----END CERTIFICATE-----\n"
    first = certifi.contents().partition(end)[0]
    return first[first.index("-----BEGIN CERTIFICATE-----") :] + end


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
