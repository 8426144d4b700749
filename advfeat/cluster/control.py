"""Up, down and status of the cluster in a folder; one of them at a time."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from advfeat.cluster.embedded import forget_other_rays
from advfeat.cluster.layout import Layout, State
from advfeat.cluster.services import Service, check_installed, services, write_credentials
from advfeat.errors import InputError, ServerStartError, first_line

Say = Callable[[str], None]
START_SECONDS = 300.0
_POLL_SECONDS = 0.3
_RUNS = {"starting", "running", "backoff", "stopping"}


@dataclass(frozen=True)
class ServiceStatus:
    """A service as it is now."""

    name: str
    state: str
    since: str | None
    pid: int | None
    address: str


@dataclass(frozen=True)
class ClusterStatus:
    """A running cluster."""

    prefect: str
    s3: str
    store: str
    ray: str
    env: str
    services: list[ServiceStatus]

    @property
    def healthy(self) -> bool:
        """Whether every service is."""
        return all(service.state == "healthy" for service in self.services)


def up(home: Path, workers: int | None, cores_per_worker: int | None, say: Say) -> ClusterStatus:
    """Start a cluster, or find the one that runs; what did not come up is stopped again."""
    check_installed()
    from advfeat.cluster.supervisor import Supervisor, end_leftovers

    layout = Layout(home)
    layout.create()
    with _alone(layout, say):
        state = layout.state()
        if state is not None and Supervisor(layout, state).answers():
            if (workers or state.workers, cores_per_worker or state.cores_per_worker) != (
                state.workers,
                state.cores_per_worker,
            ):
                raise InputError(
                    "advfeat up",
                    f"--workers {workers or state.workers}",
                    f"differs from the cluster that runs: {state.workers} workers of "
                    f"{state.cores_per_worker} cores",
                    "run `advfeat down` first, or leave the options out",
                )
            _bring_up(layout, state, say)
            return _status(layout, state)
        end_leftovers(layout)
        if state is not None:
            shutil.rmtree(state.sockets, ignore_errors=True)
        workers = workers or 2
        state = layout.new_state(workers, cores_per_worker or max(1, (os.cpu_count() or 1) // workers))
        write_credentials(layout)
        supervisor = Supervisor(layout, state)
        try:
            supervisor.start(services(layout, state))
            _bring_up(layout, state, say)
        except BaseException:
            say("stopping what was started")
            supervisor.stop()
            raise
        layout.write_env(state)
        return _status(layout, state)


def down(home: Path, delete: bool, say: Say) -> bool:
    """Stop the cluster and wait until it is gone; return whether one ran."""
    layout = Layout(home)
    state = layout.state()
    if state is None:
        _delete(layout, delete, say)
        return False
    check_installed()
    from advfeat.cluster.supervisor import Supervisor, leftovers

    with _alone(layout, say):
        supervisor = Supervisor(layout, state)
        ran = supervisor.answers() or bool(leftovers(layout))
        supervisor.stop()
    _delete(layout, delete, say)
    return ran


def addresses(home: Path) -> set[str]:
    """Return where the Prefect server of a folder's cluster is asked, if it was ever started."""
    layout = Layout(home)
    state = layout.state()
    return set() if state is None else {layout.prefect_api(state)}


def stored_bytes(home: Path) -> int:
    """Return how much the cluster of a folder has on disk, running or not."""
    files = (path for path in Layout(home).folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files)


def status(home: Path) -> ClusterStatus | None:
    """Return how the cluster is, or nothing if none runs."""
    layout = Layout(home)
    state = layout.state()
    if state is None:
        return None
    check_installed()
    from advfeat.cluster.supervisor import Supervisor

    return _status(layout, state) if Supervisor(layout, state).answers() else None


def _bring_up(layout: Layout, state: State, say: Say) -> None:
    """Start each service that does not run, and wait until all are healthy."""
    from advfeat.cluster.supervisor import Supervisor

    _point_this_process_to(layout.variables(state))
    supervisor = Supervisor(layout, state)
    began: dict[str, float] = {}
    waiting = {service.name: service for service in services(layout, state)}
    deadline = time.monotonic() + START_SECONDS
    while waiting:
        processes = supervisor.processes()
        for service in list(waiting.values()):
            if service.needs in waiting:
                continue
            process = processes[service.name]
            if process.state not in _RUNS and service.name not in began:
                began[service.name] = time.monotonic()
                supervisor.start_service(service.name)
            elif process.state == "running" and service.healthy():
                if service.prepare is not None:
                    service.prepare()
                del waiting[service.name]
                if service.name in began:
                    seconds = time.monotonic() - began[service.name]
                    say(f"{service.name:13} healthy after {seconds:5.1f} s   {service.address}")
            elif process.state == "fatal" or time.monotonic() > deadline:
                raise ServerStartError(_problem(layout, service, process.state))
        if waiting:
            time.sleep(_POLL_SECONDS)


def _point_this_process_to(variables: dict[str, str]) -> None:
    forget_other_rays()
    os.environ.pop("RAY_AUTH_TOKEN", None)  # it would outdo the cluster's, which lies in a file
    os.environ |= variables


def _problem(layout: Layout, service: Service, state: str) -> str:
    reason = "ended again and again" if state == "fatal" else f"did not come up in {START_SECONDS:.0f} s"
    return f"{service.name} {reason}; see {layout.log(service.name)}"


def _status(layout: Layout, state: State) -> ClusterStatus:
    from advfeat.cluster.supervisor import Supervisor

    variables = layout.variables(state)
    _point_this_process_to(variables)
    processes = Supervisor(layout, state).processes()
    entries = []
    for service in services(layout, state):
        process = processes[service.name]
        name = process.state
        if name == "running":
            name = "healthy" if service.healthy() else "does not answer"
        since = None if process.since is None else datetime.fromtimestamp(process.since).isoformat(" ")
        entries.append(ServiceStatus(service.name, name, since, process.pid, service.address))
    return ClusterStatus(
        prefect=variables["PREFECT_API_URL"].removesuffix("/api"),
        s3=variables["AWS_ENDPOINT_URL"],
        store=variables["ADVFEAT_STORE"],
        ray=variables["RAY_ADDRESS"],
        env=str(layout.env),
        services=entries,
    )


def _delete(layout: Layout, delete: bool, say: Say) -> None:
    if not delete or not layout.folder.exists():
        return
    try:
        shutil.rmtree(layout.folder)
    except OSError as error:
        problem = f"cannot be deleted completely ({first_line(error)})"
        raise InputError("--delete", str(layout.folder), problem, "see who may write there") from None
    say(f"deleted {layout.folder}: artifacts, Prefect's database, credentials")


@contextlib.contextmanager
def _alone(layout: Layout, say: Say) -> Iterator[None]:
    lock = FileLock(layout.lock, mode=0o600)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        say("another advfeat up or down is at work in this folder: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
