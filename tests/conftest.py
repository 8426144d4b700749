"""Fixtures: no configuration of the user's machine reaches a test, and servers are shared."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Where a shell forbids bytecode, each process that a test starts would compile torch, Ray and Prefect anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

if os.environ.get("ADVFEAT_TEST_GPU", "0") == "0":
    # Before anything asks for it: models would be trained on a GPU and asked about images on the CPU.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import pytest
import s3fs
import torch
from filelock import FileLock
from hypothesis import settings

from advfeat.cluster.embedded import HOME, prefect_server
from advfeat.planning import Experiment, load_experiment
from advfeat.storage import Store
from tests.command import CONFIGURATION, QUICK_ASSIGNMENTS, Command
from tests.servers import BUCKET, ObjectStore, give_prefect_database, make_prefect_database, object_store

# A test of a busy machine may take long now and then; pytest's own limit finds what hangs.
settings.register_profile("default", deadline=None)
settings.register_profile("fuzz", deadline=None, print_blob=True)
settings.load_profile("default")


@pytest.fixture(scope="session", autouse=True)
def _as_in_a_terminal() -> None:
    """A suite that a shell started in the background ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    """Two threads wait for each other where other work, such as half of the suite, shares the cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def _one_core(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each process of the suite has a core: with more, a run would start more workers than share its work."""
    number = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    alone = not number or request.node.get_closest_marker("all_cores") is not None
    if alone or not hasattr(os, "sched_setaffinity"):
        yield
        return
    given = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(given)[int(number) % len(given)]})
    yield
    os.sched_setaffinity(0, given)


@pytest.fixture(autouse=True)
def _unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(CONFIGURATION):
            monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()  # it would answer with the keys of an earlier test


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A real S3 server with two users."""
    store = object_store(tmp_path_factory.mktemp("seaweedfs"))
    with store.server.running():
        yield store


@pytest.fixture(scope="session")
def s3(s3_server: ObjectStore) -> dict[str, str]:
    """A real S3 server: the AWS variables that lead to it."""
    return s3_server.variables


@pytest.fixture(scope="session")
def prefect_database(suite_folder: Path) -> Path:
    """Prefect's database as it is before a first run: to make one takes a server most of its start."""
    folder = suite_folder / "prefect-database"
    with FileLock(f"{folder}.lock"):
        if not (database := folder / "prefect.db").exists():
            make_prefect_database(folder)
    return database


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory, prefect_database: Path) -> Iterator[dict[str, str]]:
    """A real Prefect server: the variables that lead to it."""
    home = tmp_path_factory.mktemp("prefect #1? 100 %20")  # what a database's address would take otherwise
    give_prefect_database(home, prefect_database)
    with prefect_server(home) as server:
        server.wait_until_ready()
        yield server.variables


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store, on disk and on S3."""
    if request.param == "local":
        return Store(str(tmp_path / "store"))
    for name, value in request.getfixturevalue("s3").items():
        monkeypatch.setenv(name, value)
    return Store(f"s3://{BUCKET}/{tmp_path.name}")


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    """An empty store on disk."""
    return Store(str(tmp_path / "store"))


@pytest.fixture(scope="session")
def suite_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of the suite share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def shared_store(suite_folder: Path) -> Store:
    """A store that takes what tests compute of the same plans, in all processes of the suite."""
    return Store(str(suite_folder / "shared-store"))


@pytest.fixture
def quick() -> Experiment:
    """All five recipes on a part of the digits, in seconds."""
    return load_experiment("digits", QUICK_ASSIGNMENTS)


@pytest.fixture
def command(tmp_path: Path, prefect_database: Path) -> Command:
    """``advfeat`` on the embedded default, in a folder that holds a database of Prefect alone."""
    give_prefect_database(tmp_path / HOME, prefect_database)
    return Command(tmp_path)


@pytest.fixture
def served_command(tmp_path: Path, prefect_api: dict[str, str]) -> Command:
    """``advfeat`` with a Prefect server that runs already, which saves its start."""
    return Command(tmp_path, prefect_api)


_LONGEST_FIRST = (
    *("test_main_job.py", "test_ui.py", "test_interruption.py", "test_configured.py", "test_recipes.py"),
    *("test_workers.py", "test_attacks.py", "test_deploy.py", "test_effects.py"),
    *("test_hostile_environments.py", "test_grid.py", "test_deployment_files.py", "test_join_ray.py"),
    *("test_step_graph.py", "test_documentation.py", "test_kubernetes_programs.py", "test_robustness.py"),
    *("test_transfer.py", "test_training.py", "test_bugs_only.py", "test_benchmarks.py"),
)
"""Files that take longest, the main job before those that may have what it computed."""

_SERVERS = {"command", "served_command", "prefect_api", "s3", "s3_server", "site", "home", "interface"}
"""Fixtures that start servers, whole runs or browsers."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts servers, and begin with the files that take longest."""
    for item in items:
        if _starts_servers(item):
            item.add_marker("servers")
    items.sort(key=lambda item: _place(item.path.name))


def _starts_servers(item: pytest.Item) -> bool:
    """Tell whether a test asks for a fixture that starts servers, also by a parameter: a store on S3."""
    asked = set(getattr(item, "fixturenames", ()))
    callspec = getattr(item, "callspec", None)
    given = set(map(str, callspec.params.values())) if callspec is not None else set()
    return not _SERVERS.isdisjoint(asked | given)


def _place(name: str) -> int:
    return _LONGEST_FIRST.index(name) if name in _LONGEST_FIRST else len(_LONGEST_FIRST)
