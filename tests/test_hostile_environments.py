"""What a user's shell, folders and configuration say to other programs does not stop a run or change it."""

import asyncio
import json
import os
import socket
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from botocore.utils import get_environ_proxies
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ray.exceptions import (
    OutOfMemoryError,
    RaySystemError,
    RayTaskError,
    RuntimeEnvSetupError,
    WorkerCrashedError,
)
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from advfeat.cluster import answers, certificates, environment, sockets
from advfeat.cluster.causes import cause, is_lasting
from advfeat.cluster.embedded import local_ray_arguments
from advfeat.cluster.environment import asking_loopback_directly, become, with_readable_proxies
from advfeat.errors import DamagedArtifactError, InputError, ServerStartError
from advfeat.flows import prefect_api as api_of_runs
from advfeat.flows.deployments import grids
from advfeat.flows.recipes import FLOWS
from advfeat.flows.walk import ray_cluster
from advfeat.storage import Store, readable
from tests.command import QUICK_D_RAND, Command
from tests.servers import free_ports, prefect_client, prefect_settings

NOBODY = "http://127.0.0.1:9"
LONG = "a-temporary-folder-of-quite-some-length-as-batch-systems-make-them"

HOSTILE: dict[str, dict[str, str]] = {
    "a proxy": {"HTTP_PROXY": NOBODY, "http_proxy": NOBODY},
    "a proxy that only SOCKS clients can use": {"HTTPS_PROXY": "socks5h://127.0.0.1:9"},
    "a proxy as desktops write it": {"ALL_PROXY": "socks://127.0.0.1:9/", "all_proxy": "socks4://h:1"},
    "a proxy that is no address": {"https_proxy": "http://proxy:port"},
    "a proxy in a spelling that Python alone reads": {"Ftp_Proxy": NOBODY},
    "proxies of gRPC and of web sockets": {"grpc_proxy": NOBODY, "ws_proxy": NOBODY, "wss_proxy": NOBODY},
    "exemptions that end httpx": {"NO_PROXY": "corp.example,fe80::/10,[::1],é.example"},
    "exemptions by spaces": {"no_proxy": "a.example b.example"},
    "a database of Prefect": {"PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///{here}/theirs.db"},
    "a server's address of Prefect": {"PREFECT_SERVER_API_HOST": "0.0.0.0", "PREFECT_SERVER_API_PORT": "no"},
    "pages of Prefect elsewhere": {"PREFECT_UI_SERVE_BASE": "/theirs", "PREFECT_SERVER_UI_ENABLED": "false"},
    "headers for a gateway": {"PREFECT_CLIENT_CUSTOM_HEADERS": json.dumps({"Authorization": "Bearer x"})},
    "a key of Prefect Cloud": {"PREFECT_API_KEY": "pnu_x"},
    "tasks of Prefect": {"PREFECT_TASKS_REFRESH_CACHE": "1", "PREFECT_TASKS_DEFAULT_RETRIES": "9"},
    "results of Prefect elsewhere": {"PREFECT_DEFAULT_RESULT_STORAGE_BLOCK": "s3-bucket/nope"},
    "a profile of Prefect": {"PREFECT_PROFILES_PATH": "{here}/profiles.toml", "PREFECT_PROFILE": "theirs"},
    "a long TMPDIR": {"TMPDIR": f"{{here}}/{LONG}"},
    "a runtime folder that is not there": {"XDG_RUNTIME_DIR": "/run/user/nobody"},
    "warnings are errors": {"PYTHONWARNINGS": "error"},
    "modules of the working folder": {"PYTHONPATH": "."},
    "no asserts and no docstrings": {"PYTHONOPTIMIZE": "2"},
    "a start-up file that is not there": {"PYTHONSTARTUP": "/nowhere.py"},
    "a locale of ASCII": {"LC_ALL": "POSIX", "LANG": "C"},
    "a home that cannot be written to": {"HOME": "/proc"},
    "settings of matplotlib that cannot be written": {"MPLCONFIGDIR": "/proc/matplotlib"},
    "GPUs that are not there": {"CUDA_VISIBLE_DEVICES": "0,1"},
    "a Ray's folder and job": {"RAY_TMPDIR": "/nowhere", "RAY_JOB_CONFIG_JSON_ENV_VAR": "no JSON"},
    "a Ray's hooks and TLS": {"RAY_RUNTIME_ENV_HOOK": "not.there", "RAY_USE_TLS": "1"},
    "a terminal that can nothing": {"TERM": "dumb", "NO_COLOR": "1"},
    "whoever may track": {"DO_NOT_TRACK": "0"},
}
"""Each by what it is; all of them at once in one run."""

PREFECT_TOML = """
[server.database]
connection_url = "sqlite+aiosqlite:///theirs.db"
[results]
default_serializer = "pickle"
"""
PROFILES = """
active = "theirs"
[profiles.theirs]
PREFECT_API_ENABLE_HTTP2 = "true"
PREFECT_SERVER_DATABASE_CONNECTION_URL = "sqlite+aiosqlite:///theirs.db"
"""


@pytest.fixture(autouse=True)
def _environment_as_before() -> Iterator[None]:
    before = dict(os.environ)
    yield
    become(before)


def test_a_run_in_all_hostile_environments_at_once(command: Command, tmp_path: Path) -> None:
    for name in ("tasks", "flows", "secrets", "uuid", "prefect", "ray"):
        (tmp_path / f"{name}.py").write_text(
            "raise RuntimeError('a module of the user stood in for another')"
        )
    (tmp_path / "prefect.toml").write_text(PREFECT_TOML)
    (tmp_path / "pyproject.toml").write_text("[tool.prefect.server.api]\nport = 1\n")
    (tmp_path / ".env").write_text("PREFECT_SERVER_API_BASE_PATH=/theirs\n")
    (tmp_path / "profiles.toml").write_text(PROFILES)
    (tmp_path / LONG).mkdir()
    assert len(HOSTILE) >= 25
    command.extra = {
        name: value.replace("{here}", str(tmp_path))
        for variables in HOSTILE.values()
        for name, value in variables.items()
    }
    process = command.start(["run", "--json", *QUICK_D_RAND])
    seen: dict[str, dict[str, str]] = {}
    gathered = threading.Thread(target=_gather, args=(process.pid, seen))
    gathered.start()
    printed, told = process.communicate(timeout=400)
    gathered.join()
    assert process.returncode == 0, told
    result = json.loads(printed)
    assert result["stages"]["computed"] == result["stages"]["total"]
    assert not list(tmp_path.glob("theirs.db*"))
    started = [variables for line, variables in seen.items() if "advfeat run" not in line]
    assert len(started) >= 4, "a Prefect server, a Ray and workers"
    for variables in started:
        assert variables["DO_NOT_TRACK"] == "1"
        assert variables["PYTHONUTF8"] == "1"
        assert not variables.keys() & {"PYTHONSTARTUP", "PYTHONOPTIMIZE", "RAY_TMPDIR", "PREFECT_API_KEY"}
    servers = [variables for line, variables in seen.items() if "prefect server start" in line]
    assert servers
    for variables in servers:
        assert not [name for name in variables if name.lower().endswith("_proxy")]
    assert command.left_processes(5) == []


def _gather(pid: int, seen: dict[str, dict[str, str]]) -> None:
    """Note the environment of each process below one, by its command line, until that one ends."""
    process = psutil.Process(pid)
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        for child in process.children(recursive=True):
            try:
                line = " ".join(child.cmdline())
                if line and line not in seen and (variables := child.environ()):
                    seen[line] = variables
            except psutil.Error:
                continue
        threading.Event().wait(0.3)


PROXIES = [
    *({name: NOBODY} for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "Http_Proxy", "ALL_PROXY")),
    *({"ALL_PROXY": f"{scheme}://127.0.0.1:9"} for scheme in ("socks", "socks4", "socks5", "socks5h", "x")),
    {"HTTP_PROXY": NOBODY, "NO_PROXY": "*.example", "no_proxy": ""},
    {"HTTP_PROXY": NOBODY, "No_Proxy": "corp.example"},
    {"http_proxy": NOBODY, "NO_PROXY": "*,corp.example"},
    {"http_proxy": "127.0.0.1:9", "NO_PROXY": "[::1]:80 fe80::/10"},
    {"http_proxy": "http://user:p@ss word@host:99999", "https_proxy": "direct://"},
    {"grpc_proxy": NOBODY, "no_grpc_proxy": "corp.example", "socks_proxy": "socks5://127.0.0.1:9"},
]


@pytest.mark.parametrize("variables", PROXIES, ids=str)
def test_no_client_asks_this_machine_through_a_proxy(
    variables: dict[str, str], prefect_api: dict[str, str]
) -> None:
    os.environ |= variables
    become(with_readable_proxies(asking_loopback_directly(os.environ)))
    url = prefect_api["PREFECT_API_URL"]
    with prefect_client(prefect_api) as client:
        assert client.api_healthcheck() is None
    opener = urllib.request.build_opener()  # urlopen's would keep these proxies for the tests to come
    assert json.load(opener.open(f"{url}/health", timeout=5)) is True
    assert not get_environ_proxies(url)
    port = httpx.URL(url).port
    asyncio.run(_meets_a_server(f"ws://127.0.0.1:{port}/api/events/in"))
    for name in ("no_grpc_proxy", "no_proxy"):
        exempt = os.environ.get(name, "*").split(",")
        assert exempt == ["*"] or {"127.0.0.1", "localhost", "::1"} <= set(exempt)


async def _meets_a_server(uri: str) -> None:
    """Raise an error unless a web socket's client comes to a server, which may refuse it."""
    with suppress(InvalidStatus):
        async with connect(uri, open_timeout=5):
            pass


@settings(max_examples=60)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])), st.text(st.characters(codec="ascii")))
@example("fe80::/10,[::1],::1,10.0.0.0/8,é.example", "socks5://h:1")
@example("x://[", "http://h:port")
def test_whatever_stands_in_them_a_client_can_be_made(exempt: str, proxy: str) -> None:
    given = {"HTTP_PROXY": proxy.replace("\0", ""), "NO_PROXY": exempt}
    before = dict(os.environ)
    try:
        become(with_readable_proxies(asking_loopback_directly(before | given)))
        httpx.Client(verify=False).close()
        assert not get_environ_proxies("http://127.0.0.1:4200/api")
        assert not get_environ_proxies("http://localhost:4200/api")
    finally:
        become(before)


def test_what_needs_a_proxy_keeps_it() -> None:
    given = {"https_proxy": "http://proxy.example:3128", "NO_PROXY": "corp.example,10.0.0.0/8"}
    composed = with_readable_proxies(asking_loopback_directly(given))
    assert composed["https_proxy"] == given["https_proxy"]
    assert composed["NO_PROXY"].split(",")[:2] == ["corp.example", "10.0.0.0/8"]
    assert asking_loopback_directly({"A": "b", "NO_PROXY": "c"}) == {"A": "b", "NO_PROXY": "c"}


def test_a_ray_of_a_run_is_tuned_by_the_user_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = {
        "RAY_worker_niceness": "0",
        "RAY_TMPDIR": "/x",
        "RAY_AUTH_TOKEN_PATH": "/x",
        "RAY_NAMESPACE": "x",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    arguments = local_ray_arguments(tmp_path)
    assert given.keys() & os.environ.keys() == {"RAY_worker_niceness"}
    assert arguments["namespace"] == "prefect"


@given(st.integers(1, 90))
def test_sockets_have_room_whatever_tmpdir_is(length: int) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as place:
        folder = Path(place) / ("a" * length)
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tempfile.tempdir", str(folder))
            found = sockets.socket_place()
            assert found in (folder, Path("/tmp")) or found.is_dir()
            session = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
            assert len(f"{found}/advfeat-{os.getuid()}/ray/{session}") <= 103
            patch.setattr(sockets, "_others", list)
            if found != folder:
                with pytest.raises(ServerStartError, match="set TMPDIR to a short path"):
                    sockets.socket_place()


@pytest.mark.parametrize("given", ["", ".", "sub:"])
def test_what_is_started_has_no_empty_pythonpath(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", given)
    monkeypatch.setenv("PYTHONINSPECT", "1")
    composed = environment.composed()
    assert not composed.keys() & {"PYTHONPATH", "PYTHONINSPECT"}, "Ray's workers would look into their folder"
    assert composed["PYTHONSAFEPATH"] == "1"


def test_sockets_lie_elsewhere_where_the_temporary_folder_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert sockets.socket_place().is_dir()


def test_a_user_without_home_or_name_has_both(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    environment.settle()
    assert Path.home().is_dir()
    assert os.environ["USER"] == f"user-{os.getuid()}"


@pytest.mark.parametrize(
    "name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"]
)
def test_stale_certificates_are_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "none.pem").write_text("no certificate\n")
    for wrong in ("gone.pem", "none.pem"):
        monkeypatch.setenv(name, str(tmp_path / wrong))
        with pytest.raises(InputError, match=f"{name}: '.*{wrong}' (cannot be read|is not a folder)"):
            certificates.check_certificates()
    monkeypatch.setenv(name, str(tmp_path))
    certificates.check_certificates()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Somebody who takes connections and says nothing, and a patience that a test has."""
    for module in (answers, readable, api_of_runs, ray_cluster):
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 1.0)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_ray_that_does_not_answer_is_refused(
    silent: str, prefect_api: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)
    (free,) = free_ports(1)
    prefect = prefect_api["PREFECT_API_URL"].removeprefix("http://").removesuffix("/api")
    problems = {
        f"127.0.0.1:{free}": "Connection refused",
        silent: "no answer in|timed out",
        prefect: "does not speak gRPC",
        "nowhere.invalid:6379": r"cannot be reached \(",
    }
    for address, problem in problems.items():
        with pytest.raises(InputError, match=problem), ray_cluster.connection(address):
            raise AssertionError("connected")
    for address in ("local", "127.0.0.1", "http://127.0.0.1:8265", "ray://127.0.0.1:10001"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(InputError, match="give HOST:PORT"):
            ray_cluster.configured_address()


def test_a_prefect_that_does_not_answer_is_refused(
    silent: str, prefect_api: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_of_runs, "PATIENCE_SECONDS", 3.0)
    (free,) = free_ports(1)
    url = prefect_api["PREFECT_API_URL"]
    stranger = {"PREFECT_API_AUTH_STRING": "somebody:else"}
    problems = [
        ({"PREFECT_API_URL": f"http://127.0.0.1:{free}/api"}, "does not answer"),
        ({"PREFECT_API_URL": f"http://{silent}/api"}, "does not answer"),
        ({"PREFECT_API_URL": "nonsense"}, "missing an 'http://'"),
        ({"PREFECT_API_URL": url} | stranger, "refuses this client"),
        ({"PREFECT_API_URL": url.removesuffix("/api")}, "no API of Prefect|does not answer"),
    ]
    for variables, problem in problems:
        with prefect_settings(prefect_api | variables), pytest.raises(InputError, match=problem):
            api_of_runs.check_api(variables["PREFECT_API_URL"])
    with prefect_settings(prefect_api):
        api_of_runs.check_api(url)


def test_a_store_that_does_not_answer_is_refused(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{silent}")
    with pytest.raises(InputError, match="no answer in"):
        Store("s3://bucket/store").check_writable()


def test_a_dead_ray_ends_the_command_in_one_line(served_command: Command) -> None:
    (free,) = free_ports(1)
    served_command.extra = {**served_command.extra, "RAY_ADDRESS": f"127.0.0.1:{free}"}
    refused = served_command("run", *QUICK_D_RAND)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"advfeat: ray: '127.0.0.1:{free}' cannot be reached (")


def _of_task(error: Exception) -> RayTaskError:
    return RayTaskError("stage", "ray::stage()\n  File …", error)


@pytest.mark.parametrize(
    ("error", "told", "lasting"),
    [
        (
            _of_task(RaySystemError(ModuleNotFoundError("No module named 'x'"), "Traceback …")),
            "its worker cannot run it (ModuleNotFoundError: No module named 'x'); install there",
            True,
        ),
        (_of_task(AttributeError("no y in x")), "AttributeError: no y in x", True),
        (_of_task(ConnectionError("gone")), "ConnectionError: gone", False),
        (_of_task(DamagedArtifactError("part.bin is missing")), "part.bin is missing", False),
        (RaySystemError("the raylet died"), "System error: the raylet died", False),
        (WorkerCrashedError(), "its worker was killed or crashed, most often because memory ran out", False),
        (OutOfMemoryError("95 % used\nmore"), "its node ran out of memory (95 % used)", False),
        (RuntimeEnvSetupError("a\npip failed"), "its worker cannot be set up (pip failed)", True),
        (MemoryError(), "MemoryError", False),
    ],
    ids=str,
)
def test_what_failed_on_ray_is_told_by_its_cause(error: Exception, told: str, lasting: bool) -> None:
    assert told in cause(error)
    assert "RayTaskError" not in cause(error)
    assert is_lasting(error) == lasting


def test_a_grid_deployment_runs_without_parameters(prefect_api: dict[str, str]) -> None:
    with prefect_settings(prefect_api), prefect_client(prefect_api) as client:
        deployment = next(each for each in grids("here", "memory://store") if each.flow_name == "clean")
        deployment.apply()
        identity = client.read_deployment_by_name("clean/clean-here").id
        given: tuple[dict[str, Any], ...] = ({}, {"grid": {}})
        for parameters in given:
            run = client.create_flow_run_from_deployment(identity, parameters=parameters)
            assert run.parameters["store"] == "memory://store"


def test_every_form_that_needs_nothing_has_a_default() -> None:
    needs = {name for name, flow in FLOWS.items() if "grid" in flow.parameters.required}
    assert needs == {"imported"}, "it reads what the user names"
