"""The files a cluster needs: against schemas and the programs they configure, and a part of them running."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from prefect.settings import Settings
from prefect_kubernetes.settings import KubernetesSettings
from prefect_redis.cleanup_queue import RedisWorkerCleanupQueueSettings
from prefect_redis.client import RedisMessagingSettings
from pydantic import AliasChoices, BaseModel
from ray.scripts.scripts import start as ray_start

from advfeat import __version__
from advfeat.cluster.services import deployment_name
from advfeat.flows.command_line.cli import app
from advfeat.planning import load_experiment
from advfeat.planning.forms import GRIDS
from advfeat.recipes import RECIPES
from deployments.__main__ import PREFECT_FILE, with_all_recipes
from tests.command import unconfigured
from tests.kubernetes_manifests import KUBECTL, KUBERNETES, TEMPLATE, rendered, variables
from tests.shell_blocks import check_program
from tests.topology import COMPOSE, ROOT, SERVICES, Topology

BIN = Path(sys.executable).parent
DEPLOYMENTS = ROOT / "deployments"
PREFECT_YAML: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text())
RUNBOOK = (DEPLOYMENTS / "runbook.md").read_text()
POSTGRES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("absent"))


def run(*command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        env={**unconfigured(), "COLUMNS": "200", "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


# Each file against its schema


def test_compose_file_follows_the_specification() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(ROOT / "docker/compose.yaml"))


def test_dockerfile_passes_the_linter() -> None:
    run("hadolint", "--failure-threshold", "style", str(ROOT / "docker/Dockerfile"))


# What schemas cannot say


@pytest.mark.parametrize("service", SERVICES)
def test_service_is_pinned_limited_watched_and_closed(service: str) -> None:
    definition = SERVICES[service]
    name, _, tag = definition["image"].partition(":")
    assert re.fullmatch(r"\d+\.\d+.*", tag), "pinned by version"
    assert name != "advfeat" or tag.startswith(f"{__version__}-")
    assert definition["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    one_shot = definition["restart"] == "no"
    assert one_shot or definition["healthcheck"]["test"]
    assert "no-new-privileges:true" in definition["security_opt"]
    assert all(port.startswith("127.0.0.1:") for port in definition.get("ports", []))
    for other, how in definition.get("depends_on", {}).items():
        finishes = SERVICES[other]["restart"] == "no"
        expected = "service_completed_successfully" if finishes else "service_healthy"
        assert how["condition"] == expected


@pytest.mark.parametrize("service", SERVICES)
def test_service_is_given_exactly_the_secrets_that_it_reads(service: str) -> None:
    definition = SERVICES[service]
    text = json.dumps([definition.get(key) for key in ("environment", "command", "entrypoint")])
    assert set(re.findall(r"/run/secrets/(\w+)", text)) == set(definition.get("secrets", []))
    assert set(definition.get("secrets", [])) <= COMPOSE["secrets"].keys()


def test_no_file_has_a_secret_in_it() -> None:
    for name, value, _ in environments():
        if re.search(
            "PASSWORD|AUTH_STRING|TOKEN|SECRET|ACCESS_KEY|CREDENTIALS|DOCKET_URL|MESSAGING_URL", name
        ) and not name.endswith(("_SECRET_NAME", "_SECRET_KEY")):
            assert value is None or value.startswith(("/run/secrets/", "$(")) or "$(" in value, name


def test_make_secrets_writes_what_compose_mounts(tmp_path: Path) -> None:
    script = shutil.copy(ROOT / "docker/make-secrets", tmp_path)
    subprocess.run([script], check=True)
    folder = tmp_path / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    named = {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    assert {path.name for path in folder.iterdir()} == named
    assert subprocess.run([script], check=False, capture_output=True).returncode != 0, "never overwritten"


def test_images_are_of_this_version() -> None:
    files = [
        ROOT / "docker/compose.yaml",
        ROOT / "docker/Dockerfile",
        *(file for file in DEPLOYMENTS.rglob("*.*") if file.suffix in (".yaml", ".json", ".md")),
    ]
    tags = {tag for file in files for tag in re.findall(r"advfeat:([\w.]+)-(?:cpu|cuda)", file.read_text())}
    assert tags == {__version__}


# Names of variables and flags, against the programs


def environments() -> Iterator[tuple[str, str | None, str]]:
    """Every variable that a file sets: name, value unless it comes from a Secret, file."""
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            yield name, value, "compose.yaml"
    for deployment in PREFECT_YAML["deployments"]:
        given: dict[str, str] = deployment["work_pool"].get("job_variables", {}).get("env", {})
        for name, value in given.items():
            yield name, value, "prefect.yaml"
    for name, value in variables(rendered(KUBERNETES / "overlays/site")) if KUBECTL else ():
        yield name, value, "Kubernetes"


def prefect_names(model: type[BaseModel]) -> Iterator[str]:
    prefix = str(model.model_config.get("env_prefix") or "")
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from prefect_names(field.annotation)
        alias = field.validation_alias
        choices = alias.choices if isinstance(alias, AliasChoices) else []
        yield from (f"{prefix}{name}".upper(), *(str(choice).upper() for choice in choices))


def test_every_prefect_variable_is_a_setting() -> None:
    models = (Settings, RedisMessagingSettings, RedisWorkerCleanupQueueSettings, KubernetesSettings)
    known = {name for model in models for name in prefect_names(model)}
    assert "PREFECT_API_URL" in known
    used = {name.removesuffix("_FILE") for name, _, _ in environments() if name.startswith("PREFECT_")}
    assert used - known == set()


def test_every_ray_variable_is_known() -> None:
    folder = Path(ray.__file__).parent
    known = set(re.findall(r"(\w+)\(\) const", (folder / "includes/ray_config.pxd").read_text()))
    library = (folder / "_raylet.so").read_bytes()
    sources = (folder / "_private/worker.py").read_text()
    for name in {name for name, _, _ in environments() if name.startswith("RAY_")}:
        assert name.removeprefix("RAY_") in known or name.encode() in library or name in sources, name


def test_a_silent_ray_node_is_given_up_in_less_than_20_seconds() -> None:
    period, timeout, tries = (
        int(SERVICES["ray-head"]["environment"][f"RAY_health_check_{name}"])
        for name in ("period_ms", "timeout_ms", "failure_threshold")
    )
    assert (period + timeout) * tries < 20_000


@pytest.mark.parametrize("service", ["ray-head", "ray-worker", "ray-worker-gpu"])
def test_ray_start_has_the_flags(service: str) -> None:
    with ray_start.make_context("ray start", SERVICES[service]["command"][2:], resilient_parsing=False):
        pass
    ports = [int(word.split("=")[1]) for word in SERVICES[service]["command"] if "-port=" in word]
    assert len(ports) == len(set(ports))


def test_joining_ray_uses_flags_of_ray_start() -> None:
    flags = {flag for parameter in ray_start.params for flag in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", (ROOT / "docker/join-ray").read_text())) <= flags


def test_weed_has_the_flags() -> None:
    done = subprocess.run([BIN / "weed", "server", "-h"], capture_output=True, text=True, check=False)
    known = set(re.findall(r"^ +(-[\w.]+)", done.stdout + done.stderr, re.MULTILINE))
    used = {word.split("=")[0] for word in SERVICES["seaweedfs"]["command"][1:]}
    assert used - known == set()


def commands(program: str) -> set[tuple[str, ...]]:
    """Command lines of a program in the compose file and the runbook, words and flags."""
    found = [
        *(service.get("command", []) for service in SERVICES.values()),
        *(
            line.split()
            for block in re.findall(r"```sh\n(.*?)```", RUNBOOK, re.DOTALL)
            for line in block.splitlines()
        ),
    ]
    starts = ("with-secrets", "join-ray")
    found = [words[1:] if words and words[0] in starts else words for words in found]
    lines = [words[1:] for words in found if words and words[0] == program]
    return {tuple(line) for line in lines}


def test_prefect_has_the_commands_and_flags() -> None:
    for line in commands("prefect"):
        check_program(["prefect", *line])


def test_runbook_calls_programs_that_exist() -> None:
    names = {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }
    assert {line[0] for line in commands("advfeat")} <= names
    blocks = re.findall(r"```sh\n(.*?)```", RUNBOOK, re.DOTALL)
    lines = [line for block in blocks for line in re.sub(r"\\\n", " ", block).splitlines() if line.strip()]
    programs = {line.split()[0] for line in lines if not line.startswith((" ", "#", "export "))}
    secrets = {"docker/make-secrets", "deployments/kubernetes/make-secrets"}
    assert programs <= {
        "advfeat",
        "prefect",
        "python",
        "docker",
        "kubectl",
        "helm",
        "mv",
        "rm",
        "tar",
        *secrets,
    }
    for service in re.findall(
        r"compose (?:exec|logs|restart|stop|up)(?: --?[\w=-]+)* ([a-z][\w-]+)", RUNBOOK
    ):
        assert service in SERVICES


# Running


def test_the_prefect_file_names_every_recipe() -> None:
    text = PREFECT_FILE.read_text()
    assert with_all_recipes(text) == text, "make deployments writes it anew"
    one_gone = re.sub(r"  - <<: \[\*grid, \*docker\]\n    name: d_det-docker\n(    .*\n)+", "", text)
    assert with_all_recipes(one_gone) == text != one_gone


def test_deployments_on_a_prefect_server(prefect_api: dict[str, str], tmp_path: Path) -> None:
    create = ("prefect", "--no-prompt", "work-pool", "create", "--overwrite")
    for pool in ("process", "docker"):
        run(*create, pool, "--type", pool, **prefect_api)
    run(*create, "kubernetes", "--type", "kubernetes", "--base-job-template", str(TEMPLATE), **prefect_api)
    names = {
        "ADVFEAT_STORE": "s3://advfeat",
        "ADVFEAT_SECRETS": "/secrets",
        "ADVFEAT_IMAGE": "registry.example.org/advfeat:0.1.0-cpu",
        "ADVFEAT_NAMESPACE": "advfeat",
        **prefect_api,
    }
    run("python", str(DEPLOYMENTS / "deploy.py"), "*", **names)
    body = json.dumps({"sort": "NAME_ASC", "deployments": {"tags": {"all_": ["advfeat"]}}}).encode()
    url = f"{prefect_api['PREFECT_API_URL']}/deployments/filter"
    answer = request(url, body, prefect_api["PREFECT_API_AUTH_STRING"])
    pools = ("docker", "kubernetes", "process")  # other tests deploy on this server too
    answer = [deployment for deployment in answer if deployment["work_pool_name"] in pools]
    for deployment in answer:
        assert deployment["name"].endswith(f"-{deployment['work_pool_name']}")
        assert deployment["parameters"]["store"] == "s3://advfeat"
        assert deployment["pull_steps"] in ([], None)
    forms = {
        (entry["name"], entry["entrypoint"], entry["tags"][0], "Published: " in entry["description"])
        for entry in answer
        if "recipes" in entry["entrypoint"]
    }
    assert forms == {
        (
            deployment_name(name, pool),
            f"advfeat.flows.recipes.{name}",
            RECIPES[name].purpose,
            RECIPES[name].published is not None,
        )
        for pool in pools
        for name in GRIDS
    }
    answer = [
        entry for entry in answer if entry["entrypoint"] == "advfeat.flows.experiment.learning_from_errors"
    ]
    assert [deployment["work_pool_name"] for deployment in answer] == ["docker", "kubernetes", "process"]
    for deployment in answer:
        assert deployment["global_concurrency_limit"]["limit"] == 1
        (schedule,) = deployment["schedules"]
        assert (schedule["active"], schedule["schedule"]["cron"]) == (False, "0 2 * * *")
        experiment = deployment["parameters"]["experiment"]
        file = tmp_path / "experiment.yaml"
        file.write_text(yaml.safe_dump(experiment))
        assert load_experiment(str(file), []) == load_experiment("digits", [])
    assert answer[0]["job_variables"]["volumes"] == ["/secrets:/run/secrets:ro"]
    assert answer[1]["job_variables"] == {"image": names["ADVFEAT_IMAGE"], "namespace": "advfeat"}


def request(url: str, body: bytes | None = None, user: str = "") -> Any:
    headers = {"Content-Type": "application/json"}
    if user:
        headers["Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
        return json.load(answer)


@pytest.mark.servers
def test_storage_of_the_compose_file_runs(tmp_path: Path) -> None:
    with Topology(tmp_path) as topology:
        topology.start("seaweedfs")
        if shutil.which("wget"):
            topology.wait_until_healthy("seaweedfs")
        else:
            wait_for(topology.local("http://127.0.0.1:8333/healthz"))
        topology.run("seaweedfs-bucket")
        topology.run("seaweedfs-bucket")  # as when the stack is started again
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(topology.local("http://127.0.0.1:8333/advfeat"), timeout=10)


def wait_for(url: str) -> None:
    for _ in range(100):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            subprocess.run(["sleep", "0.2"], check=True)
    raise TimeoutError(url)


@pytest.mark.servers
@pytest.mark.skipif(not POSTGRES.exists(), reason="no PostgreSQL server on this machine")
def test_servers_of_the_compose_file_run(tmp_path: Path) -> None:
    with Topology(tmp_path) as topology:
        query = start_postgres(topology, tmp_path)
        topology.start("redis")
        topology.wait_until_healthy("redis")
        topology.run("prefect-migrate")
        topology.start("prefect-server")
        topology.wait_until_healthy("prefect-server")
        assert not topology.healthy("prefect-services"), "the web server's worker runs no services"
        topology.start("prefect-services")
        topology.wait_until_healthy("prefect-services")
        api = topology.local("http://127.0.0.1:4200/api")
        user = (topology.secrets / "prefect_auth").read_text().strip()
        for wrong in ("", "admin:wrong"):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                request(f"{api}/flow_runs/filter", b"{}", wrong)
        assert request(f"{api}/flow_runs/filter", b"{}", user) == []
        flow = "from prefect import flow\n@flow\ndef probe(): print('ran')\nprobe()"
        client = topology.environment("prefect-deploy")
        subprocess.run([ROOT / "docker/with-secrets", sys.executable, "-c", flow], env=client, check=True)
        (recorded,) = request(f"{api}/flow_runs/filter", b"{}", user)
        assert query("SELECT id, state_name FROM flow_run") == f"{recorded['id']}|Completed"


def start_postgres(topology: Topology, folder: Path) -> Callable[[str], str]:
    """Start what the image does at its first start: a new database with the password of the secret."""
    image = SERVICES["postgres"]["environment"]
    password = topology.local(image["POSTGRES_PASSWORD_FILE"])
    port = topology.local(SERVICES["prefect-server"]["environment"]["PREFECT_SERVER_DATABASE_PORT"])
    data = Path(tempfile.mkdtemp(prefix="advfeat-postgres-"))  # pytest's folders are closed to other users
    topology.keep(lambda: shutil.rmtree(data))
    as_user: list[str | Path] = []
    if os.getuid() == 0:  # as whom PostgreSQL refuses to run
        shutil.chown(data, "postgres", "postgres")
        as_user = ["runuser", "--user", "postgres", "--"]

    def postgres(program: str, *arguments: str | Path) -> str:
        done = subprocess.run(
            [*as_user, POSTGRES / program, *arguments], cwd=data, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    given = data / "password"
    shutil.copy(password, given)
    if as_user:
        shutil.chown(given, "postgres")
    user = f"--username={image['POSTGRES_USER']}"
    postgres("initdb", "--auth-host=scram-sha-256", "--auth-local=trust", f"--pwfile={given}", user, "db")
    options = f"-h 127.0.0.1 -p {port} -k {data} -c fsync=off"
    postgres("pg_ctl", "start", "--wait", "-D", "db", "-o", options, "-l", "log")
    topology.keep(lambda: postgres("pg_ctl", "stop", "--wait", "-D", "db", "-m", "immediate"))
    there = [f"--host={data}", f"--port={port}", user]
    postgres("createdb", *there, image["POSTGRES_DB"])
    return lambda sql: postgres("psql", *there, "-d", image["POSTGRES_DB"], "-At", "-c", sql)
