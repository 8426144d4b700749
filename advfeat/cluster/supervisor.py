"""supervisord under the services: its configuration, its start, its end, and what it says of them."""

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from xmlrpc.client import Error, ServerProxy

import psutil
from supervisor.xmlrpc import SupervisorTransport

from advfeat.cluster.layout import MARK, Layout, State
from advfeat.cluster.private_files import write_private
from advfeat.cluster.services import Service
from advfeat.errors import ServerStartError

_STOP_SECONDS = 10
_GONE_SECONDS = 60.0
_POLL_SECONDS = 0.1

# Paths are relative to the folder: a "%" in an absolute one would be expanded, in some options twice.
_HEAD = """\
[unix_http_server]
file={socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisord]
logfile=logs/supervisord.log
pidfile=supervisord.pid
umask=077
"""
_PROGRAM = """
[program:{name}]
command={command}
directory={folder}
autostart=false
autorestart=true
startsecs=2
startretries=20
stopwaitsecs={stop_seconds}
killasgroup=true
redirect_stderr=true
stdout_logfile=logs/{name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=1
"""


@dataclass(frozen=True)
class Process:
    """What supervisord says of a service."""

    state: str
    pid: int | None
    since: float | None
    """Seconds since the epoch."""


class Supervisor:
    """The supervisord of a cluster; whoever answers at its socket is it, whatever a file of pids says."""

    def __init__(self, layout: Layout, state: State) -> None:
        self._layout = layout
        self._state = state
        self._socket = state.sockets / "supervisor.sock"

    def start(self, services: Iterable[Service]) -> None:
        """Start supervisord alone, as a daemon; no service yet."""
        write_private(self._layout.configuration, self._configuration(services))
        done = subprocess.run(
            [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(self._layout.configuration)],
            cwd=self._layout.folder,
            env=self._layout.environment(self._state),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            umask=0o077,
        )
        if done.returncode != 0:
            reason = (done.stdout.strip() or f"exit code {done.returncode}").splitlines()[0]
            raise ServerStartError(f"supervisord did not start: {reason}")
        deadline = time.monotonic() + _STOP_SECONDS
        while not self.answers():
            if time.monotonic() > deadline:
                raise ServerStartError(f"supervisord did not start; see {self._layout.log('supervisord')}")
            time.sleep(_POLL_SECONDS)

    def answers(self) -> bool:
        """Tell whether it runs."""
        try:
            self._rpc().getState()
        except (OSError, Error):
            return False
        return True

    def start_service(self, name: str) -> None:
        """Start a service that does not run."""
        self._rpc().startProcess(name, False)

    def processes(self) -> dict[str, Process]:
        """Return what became of each service, by its name."""
        return {
            info["name"]: Process(
                state=info["statename"].lower(),
                pid=info["pid"] or None,
                since=info["start"] if info["pid"] else None,
            )
            for info in self._rpc().getAllProcessInfo()
        }

    def stop(self) -> None:
        """End the services, supervisord, and whatever is left of either; wait until all are gone."""
        try:
            if self.processes()["deployment"].pid is not None:
                self._rpc().stopProcess("deployment")  # first: its flows report that they end
            self._rpc().stopAllProcesses()
            self._rpc().shutdown()
        except (OSError, Error, KeyError):
            pass  # it is gone already: what it started may not be
        deadline = time.monotonic() + _STOP_SECONDS
        while self.answers() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        end_leftovers(self._layout)
        shutil.rmtree(self._state.sockets, ignore_errors=True)

    def _rpc(self) -> Any:
        address = f"unix://{self._socket}"
        return ServerProxy("http://127.0.0.1", transport=SupervisorTransport(None, None, address)).supervisor

    def _configuration(self, services: Iterable[Service]) -> str:
        head = _HEAD.format(socket=self._socket)
        programs = [
            _PROGRAM.format(
                name=service.name,
                command=shlex.join(service.command).replace("%", "%%"),
                stop_seconds=service.stop_seconds,
                folder=service.folder,
            )
            for service in services
        ]
        return head + "".join(programs)


def leftovers(layout: Layout) -> list[psutil.Process]:
    """Return the processes of this cluster, known by a variable in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(layout.folder):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.pid != psutil.Process().pid]


def end_leftovers(layout: Layout) -> None:
    """End what still runs of this cluster, as after ``kill -9`` of its supervisord."""
    deadline = time.monotonic() + _GONE_SECONDS
    while (left := leftovers(layout)) and time.monotonic() < deadline:
        for process in left:
            try:
                process.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(left, timeout=1)
