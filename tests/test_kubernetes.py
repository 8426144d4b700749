"""``deployments/kubernetes``: rendered, held against schemas and rules; what needs no cluster is run."""

import copy
import functools
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml
from jsonschema import Draft202012Validator
from ray.scripts.scripts import start as ray_start
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from advfeat import __version__
from tests import kubernetes_rules as rules
from tests.command import unconfigured
from tests.kubernetes_rules import RULES, Given, Rule
from tests.manifests import (
    COMPONENTS,
    KUBECTL,
    KUBERNETES,
    OVERLAYS,
    SERVICES,
    TEMPLATE,
    Manifest,
    as_taken,
    flow_run,
    kustomization,
    pods,
    rendered,
)
from tests.servers import prefect_client
from tests.shell_blocks import check_program, commands
from tests.topology import SERVICES as COMPOSE_SERVICES

pytestmark = pytest.mark.skipif(
    KUBECTL is None and sys.platform != "linux", reason="no kubectl, which is installed for Linux alone"
)
ROOT = KUBERNETES.parent.parent
RUNBOOK = (ROOT / "deployments/runbook.md").read_text()
BLOCKS = [block for block in re.findall(r"```sh\n(.*?)```", RUNBOOK, re.DOTALL) if "kubectl" in block]
PATH = f"{Path(sys.executable).parent}:/usr/bin:/bin"
VERSIONS = ("1.29", "1.37")
"""The oldest Kubernetes that the runbook promises, and the newest whose schemas we have."""

# What the component of a name cannot do without.
_NEEDS = {"spot-gpus": ["gpus", "spot-gpus"]}


@pytest.fixture(params=[*OVERLAYS, *COMPONENTS], scope="module")
def manifests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """Each overlay, and each component on the base and the services that it needs; with the job of a run."""
    if request.param in OVERLAYS:
        folder = KUBERNETES / "overlays" / request.param
    else:
        named = [*SERVICES, *_NEEDS.get(request.param, [request.param]), "names"]
        folder = kustomization(tmp_path_factory.mktemp("site"), list(dict.fromkeys(named)))
    return [*rendered(folder), flow_run(rendered(folder))]


@pytest.fixture(scope="module")
def trial() -> list[Manifest]:
    """All parts of the overlay that needs nothing else."""
    everything = rendered(KUBERNETES / "overlays/trial")
    return [*everything, flow_run(everything)]


@functools.cache
def given() -> Given:
    """What somebody who follows the runbook makes."""
    made = subprocess.run([KUBERNETES / "make-secrets"], capture_output=True, text=True, check=True).stdout
    secrets = {secret["metadata"]["name"]: set(secret["stringData"]) for secret in yaml.safe_load_all(made)}
    for kind, name, options in re.findall(r"kubectl create secret (\S+) (\S+)(.*)", RUNBOOK):
        keys = set(re.findall(r"--from-file=(\S+?)=", options))
        if kind == "generic" and keys:
            assert name in secrets, "its keys are known by make-secrets"
        else:
            secrets.setdefault(name, keys)
    return Given(secrets, RUNBOOK)


def container(manifests: list[Manifest], owner: str, name: str) -> dict[str, Any]:
    (found,) = [
        c for pod in pods(manifests) if pod.owner == owner for c in pod.containers if c["name"] == name
    ]
    return found


# Schemas


@functools.cache
def validator(kind: str, api_version: str, kubernetes: str) -> Draft202012Validator:
    """Return what refuses manifests of a kind, fields that nobody knows included."""
    version = {"1.29": "v1.29.0", "1.37": "v1.37.0"}[kubernetes]
    folder = Path(kubernetes_validate.__file__).parent / f"kubernetes-json-schema/{version}-local-strict"
    if kind == "RayCluster":
        schema = ROOT / "tests/schemas/ray-cluster.json"
    else:
        schema = folder / f"{kind.lower()}-{re.sub(r'[.][^/]*', '', api_version).replace('/', '-')}.json"
    return Draft202012Validator(json.loads(schema.read_text()), registry=definitions(folder))


@functools.cache
def definitions(folder: Path) -> "Registry[Any]":
    content = json.loads((folder / "_definitions.json").read_text())
    return DRAFT202012.create_resource(content) @ Registry()


def schema_errors(manifest: Manifest, kubernetes: str) -> list[str]:
    found = validator(manifest["kind"], manifest["apiVersion"], kubernetes).iter_errors(manifest)
    return [f"{manifest['kind']}: {error.json_path}: {error.message[:300]}" for error in found]


@pytest.mark.parametrize("kubernetes", VERSIONS)
def test_manifests_follow_the_schemas(manifests: list[Manifest], kubernetes: str) -> None:
    assert [error for manifest in manifests for error in schema_errors(manifest, kubernetes)] == []


@pytest.mark.parametrize(
    ("kind", "misspell"),
    [
        ("RayCluster", lambda m: m["spec"]["autoscalerOptions"].update(idleTimeout=3)),
        ("RayCluster", lambda m: m["spec"]["workerGroupSpecs"][0].pop("maxReplicas")),
        ("RayCluster", lambda m: m["spec"]["headGroupSpec"]["template"]["spec"].update(tolerances=[])),
        (
            "Deployment",
            lambda m: m["spec"]["template"]["spec"]["containers"][0].update(imagePullPolice="Always"),
        ),
        ("Job", lambda m: m["spec"].update(backoffLimits=3)),
        ("NetworkPolicy", lambda m: m["spec"].update(policyTypes="Ingress")),
    ],
)
def test_the_schemas_see_a_slip_of_the_pen(
    trial: list[Manifest], kind: str, misspell: Callable[[Manifest], object]
) -> None:
    manifest = copy.deepcopy(next(m for m in trial if m["kind"] == kind))
    misspell(manifest)
    assert len(schema_errors(manifest, VERSIONS[-1])) == 1


# Rules


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_manifests_keep_the_rules(manifests: list[Manifest], rule: Rule) -> None:
    assert list(rule(manifests, given())) == []


def _of(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    return next(m for m in manifests if (m["kind"], m["metadata"].get("name")) == (kind, name))


def _pod(manifests: list[Manifest], name: str = "prefect-server") -> Manifest:
    pod: Manifest = _of(manifests, "Deployment", name)["spec"]["template"]["spec"]
    return pod


def _first(manifests: list[Manifest], name: str = "prefect-server") -> Manifest:
    found: Manifest = _pod(manifests, name)["containers"][0]
    return found


def _settings(manifests: list[Manifest], name: str) -> dict[str, str]:
    data: dict[str, str] = _of(manifests, "ConfigMap", name)["data"]
    return data


def _quota(cores: str) -> Manifest:
    hard = {"hard": {"requests.cpu": cores}}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": hard}


Violation = Callable[[list[Manifest]], object]
VIOLATIONS: list[tuple[Rule, Violation, str]] = [
    (rules.nobody_is_root, lambda m: _pod(m)["securityContext"].pop("runAsNonRoot"), "may be root"),
    (rules.nobody_is_root, lambda m: _first(m)["securityContext"].update(runAsUser=0), "is root"),
    (rules.nobody_is_root, lambda m: _pod(m)["securityContext"].pop("seccompProfile"), "seccomp"),
    (
        rules.nobody_gains_privileges,
        lambda m: _first(m)["securityContext"].pop("allowPrivilegeEscalation"),
        "privileges",
    ),
    (
        rules.nobody_gains_privileges,
        lambda m: _first(m)["securityContext"].pop("capabilities"),
        "capabilities",
    ),
    (
        rules.nobody_gains_privileges,
        lambda m: _first(m)["securityContext"].update(readOnlyRootFilesystem=False),
        "write to its image",
    ),
    (rules.nobody_gains_privileges, lambda m: _pod(m).update(hostNetwork=True), "hostNetwork"),
    (
        rules.nobody_gains_privileges,
        lambda m: _pod(m)["volumes"].append({"name": "node", "hostPath": {"path": "/"}}),
        "folder of the node",
    ),
    (
        rules.nobody_gains_privileges,
        lambda m: _of(m, "RayCluster", "advfeat-ray")["spec"]["autoscalerOptions"].pop("securityContext"),
        "autoscaler",
    ),
    (
        rules.everything_is_limited,
        lambda m: _first(m)["resources"]["limits"].pop("memory"),
        "memory has no",
    ),
    (
        rules.everything_is_limited,
        lambda m: _first(m)["resources"]["requests"].update(cpu="9"),
        "more cpu",
    ),
    (rules.everything_is_limited, lambda m: _pod(m)["volumes"][0].update(emptyDir={}), "no limit"),
    (rules.everything_is_watched, lambda m: _first(m).pop("livenessProbe"), "no livenessProbe"),
    (rules.images_are_pinned, lambda m: _first(m).update(image="advfeat:latest"), "no version"),
    (rules.images_are_pinned, lambda m: _first(m).update(image="advfeat"), "no version"),
    (rules.environment_is_ours, lambda m: _pod(m).pop("enableServiceLinks"), "REDIS_PORT"),
    (
        rules.environment_is_ours,
        lambda m: _pod(m).pop("automountServiceAccountToken"),
        "key to Kubernetes",
    ),
    (
        rules.no_secret_is_written_down,
        lambda m: _first(m)["env"].append({"name": "PREFECT_API_AUTH_STRING", "value": "admin:1234"}),
        "PREFECT_API_AUTH_STRING",
    ),
    (
        rules.no_secret_is_written_down,
        lambda m: _settings(m, "prefect-server").update(
            PREFECT_SERVER_DOCKET_URL="redis://:1234@redis:6379/1"
        ),
        "password in its address",
    ),
    (
        rules.no_secret_is_written_down,
        lambda m: m.append({"kind": "Secret", "metadata": {"name": "open"}, "data": {}}),
        "in the repository",
    ),
    (
        rules.references_lead_somewhere,
        lambda m: _first(m)["envFrom"].append({"configMapRef": {"name": "absent"}}),
        "nobody makes the ConfigMap absent",
    ),
    (
        rules.references_lead_somewhere,
        lambda m: _first(m)["env"][0]["valueFrom"]["secretKeyRef"].update(key="auth_string"),
        "prefect-auth has no auth_string",
    ),
    (
        rules.references_lead_somewhere,
        lambda m: _pod(m).update(imagePullSecrets=[{"name": "elsewhere"}]),
        "nobody makes the Secret elsewhere",
    ),
    (
        rules.references_lead_somewhere,
        lambda m: _of(m, "RayCluster", "advfeat-ray")["spec"].pop("authOptions"),
        "nobody makes the Secret advfeat-ray",
    ),
    (
        rules.references_lead_somewhere,
        lambda m: m.remove(_of(m, "ServiceAccount", "prefect-worker")),
        "no account prefect-worker",
    ),
    (
        rules.references_lead_somewhere,
        lambda m: _first(m)["volumeMounts"].append({"name": "cache", "mountPath": "/cache"}),
        "no volume cache",
    ),
    (
        rules.selectors_find_pods,
        lambda m: _of(m, "Service", "redis")["spec"].update(selector={"app": "redis"}),
        "no pod has {'app': 'redis'}",
    ),
    (
        rules.selectors_find_pods,
        lambda m: _of(m, "NetworkPolicy", "redis")["spec"]["ingress"][0]["from"][0]["podSelector"][
            "matchExpressions"
        ][0]["values"].append("prefect-sever"),
        "prefect-sever",
    ),
    (
        rules.nodes_are_described,
        lambda m: _pod(m).update(nodeSelector={"advfeat/capacity": "fast"}),
        "nobody sets the label advfeat/capacity=fast",
    ),
    (
        rules.nodes_are_described,
        lambda m: _pod(m).update(tolerations=[{"key": "amd.com/gpu", "effect": "NoSchedule"}]),
        "nobody sets the taint amd.com/gpu",
    ),
    (
        rules.nodes_are_described,
        lambda m: _first(m)["resources"]["limits"].update({"amd.com/gpu": 1}),
        "nobody offers amd.com/gpu",
    ),
    (
        rules.prerequisites_are_named,
        lambda m: _of(m, "StatefulSet", "redis")["spec"].update(ingressClassName="traefik"),
        "traefik",
    ),
    (
        rules.ports_are_open,
        lambda m: _of(m, "Service", "prefect-server")["spec"]["ports"][0].update(targetPort="http"),
        "port http",
    ),
    (
        rules.ports_are_open,
        lambda m: _first(m)["livenessProbe"]["httpGet"].update(port="http"),
        "livenessProbe asks port http",
    ),
    (
        rules.ports_are_open,
        lambda m: _of(m, "NetworkPolicy", "redis")["spec"]["ingress"][0].update(ports=[{"port": "db"}]),
        "port db",
    ),
    (
        rules.addresses_are_answered,
        lambda m: _settings(m, "clients").update(PREFECT_API_URL="http://prefect:4200/api"),
        "no service prefect",
    ),
    (
        rules.addresses_are_answered,
        lambda m: _settings(m, "clients").update(RAY_ADDRESS="advfeat-ray-head-svc:6380"),
        "no port 6380",
    ),
    (
        rules.addresses_are_answered,
        lambda m: _settings(m, "prefect-server").update(REDIS_PORT="6380"),
        "no port 6380",
    ),
    (rules.quotas_have_room, lambda m: m.append(_quota("2")), "requests.cpu is 2"),
]


@pytest.mark.parametrize(("rule", "violate", "finding"), VIOLATIONS)
def test_the_rules_see_what_is_against_them(
    trial: list[Manifest], rule: Rule, violate: Violation, finding: str
) -> None:
    broken = copy.deepcopy(trial)  # one that shares nothing: YAML's anchors are resolved
    violate(broken)
    assert any(finding in found for found in rule(broken, given())), list(rule(broken, given()))


def test_every_rule_is_tested_with_what_is_against_it() -> None:
    assert {rule for rule, _, _ in VIOLATIONS} == set(RULES)


def test_the_commands_for_a_site_make_all_secrets_that_it_asks_for() -> None:
    made = {"prefect-auth": given().secrets["prefect-auth"]}
    assert "make-secrets prefect-auth |" in RUNBOOK
    for name, options in re.findall(r"kubectl create secret \S+ (\S+)(.*)", RUNBOOK):
        made[name] = set(re.findall(r"--from-file=(\S+?)=", options))
    site = rendered(KUBERNETES / "overlays/site")
    everything = [*site, flow_run(site)]
    assert list(rules.references_lead_somewhere(everything, Given(made, RUNBOOK))) == []


def test_the_trial_fits_where_the_runbook_says(trial: list[Manifest]) -> None:
    told = re.search(r"\| (\d+) cores and (\d+) GB that are free", RUNBOOK)
    assert told
    for name, there in (("cpu", int(told[1])), ("memory", int(told[2]) * 10**9)):
        asked = [
            rules.quantity(c["resources"]["requests"][name])
            for pod in pods(trial)
            for c in pod.spec["containers"]
        ]
        assert there * 0.8 < sum(asked) <= there


def test_kuberay_is_asked_for_where_nobody_installs_it(trial: list[Manifest]) -> None:
    assert list(rules.prerequisites_are_named(trial, Given({}, runbook="")))


# One place


def test_an_address_stands_in_one_file() -> None:
    base = (KUBERNETES / "base/kustomization.yaml").read_text()
    files = [path for path in KUBERNETES.rglob("*") if path.is_file() and path.name != "kustomization.yaml"]
    files.append(ROOT / "deployments/prefect.yaml")
    for address in (
        "prefect-server:4200",
        "advfeat-ray-head-svc:",
        "seaweedfs:8333",
        f"advfeat:{__version__}",
    ):
        assert address in base
        others = [str(path) for path in files if address in _without_compose(path.read_text())]
        assert others == [], address


def _without_compose(text: str) -> str:
    """Leave out what ``prefect.yaml`` says of containers beside those of the Compose file."""
    return re.sub(r"  docker: &docker\n.*?\n\n", "", text, flags=re.DOTALL)


def test_every_container_of_ours_has_the_image_that_the_overlay_names() -> None:
    site = rendered(KUBERNETES / "overlays/site")
    images = _of(list(site), "ConfigMap", "images")["data"]
    found = {c["image"] for pod in pods([*site, flow_run(site)]) for c in pod.containers}
    assert found == {images["ADVFEAT_IMAGE"], images["ADVFEAT_GPU_IMAGE"]}
    assert images["ADVFEAT_IMAGE"].startswith("registry.example.org/")
    (ray_cluster,) = [m for m in site if m["kind"] == "RayCluster"]
    gpu = ray_cluster["spec"]["workerGroupSpecs"][1]
    assert gpu["template"]["spec"]["containers"][0]["image"] == images["ADVFEAT_GPU_IMAGE"]


def test_the_ingress_has_the_host_of_the_interface() -> None:
    site = list(rendered(KUBERNETES / "overlays/site"))
    (ingress,) = [m["spec"] for m in site if m["kind"] == "Ingress"]
    assert (
        f"https://{ingress['rules'][0]['host']}/api"
        == _settings(site, "prefect-server")["PREFECT_SERVER_UI_API_URL"]
    )
    assert ingress["tls"][0]["hosts"] == [ingress["rules"][0]["host"]]


def test_prefect_is_set_as_on_one_machine(trial: list[Manifest]) -> None:
    compose = COMPOSE_SERVICES["prefect-server"]["environment"]
    variables = [c["name"] for c in container(trial, "Deployment/prefect-server", "prefect-server")["env"]]
    ours = {**_settings(trial, "prefect-server"), **dict.fromkeys(variables)}
    assert {name.removesuffix("_FILE") for name in compose} - ours.keys() == set()
    assert {name: ours[name] for name in compose.keys() & _settings(trial, "prefect-server").keys()} == {
        name: value for name, value in compose.items() if name in _settings(trial, "prefect-server")
    }
    for name in SERVICES:
        assert container(trial, f"StatefulSet/{name}", name)["image"] == COMPOSE_SERVICES[name]["image"]


# Ray


def _ray_cluster(manifests: list[Manifest]) -> dict[str, Any]:
    return next(m["spec"] for m in manifests if m["kind"] == "RayCluster")


def test_ray_cluster_is_of_the_installed_ray(trial: list[Manifest]) -> None:
    spec = _ray_cluster(trial)
    assert spec["rayVersion"] == ray.__version__
    flags = {flag for parameter in ray_start.params for flag in parameter.opts}
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    assert {f"--{name}" for group in groups for name in group["rayStartParams"]} <= flags


def test_a_silent_ray_node_is_given_up_in_less_than_20_seconds(trial: list[Manifest]) -> None:
    head = _ray_cluster(trial)["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]
    variables = {entry["name"]: int(entry["value"]) for entry in head}
    period, timeout, tries = (
        variables[f"RAY_health_check_{name}"] for name in ("period_ms", "timeout_ms", "failure_threshold")
    )
    assert (period + timeout) * tries < 20_000


def test_worker_groups_differ_where_they_must() -> None:
    """The group for GPUs is written out, as kustomize cannot copy one; it must not fall behind the other."""
    cpu, gpu = _ray_cluster(list(rendered(KUBERNETES / "overlays/site")))["workerGroupSpecs"]
    pod, other = cpu["template"]["spec"], gpu["template"]["spec"]
    for name in ("image", "resources"):
        del pod["containers"][0][name], other["containers"][0][name]
    other["tolerations"] = [entry for entry in other["tolerations"] if entry["key"] != "nvidia.com/gpu"]
    assert pod == other


# Secrets


def test_make_secrets_draws_them_anew_each_time() -> None:
    def drawn(*names: str) -> dict[str, dict[str, str]]:
        done = subprocess.run(
            [str(KUBERNETES / "make-secrets"), *names], capture_output=True, text=True, check=True
        )
        made = list(yaml.safe_load_all(done.stdout))
        assert [error for secret in made for error in schema_errors(secret, VERSIONS[0])] == []
        return {secret["metadata"]["name"]: secret["stringData"] for secret in made}

    first, second = drawn(), drawn()
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)
    assert first["prefect-redis"]["redis.conf"] == f"requirepass {first['prefect-redis']['password']}"
    (keys,) = json.loads(first["seaweedfs"]["identities"])["identities"][0]["credentials"]
    assert first["store"] == {
        "AWS_ACCESS_KEY_ID": keys["accessKey"],
        "AWS_SECRET_ACCESS_KEY": keys["secretKey"],
    }
    assert drawn("prefect-auth").keys() == {"prefect-auth"}


def test_make_secrets_prints_nothing_under_a_name_that_nobody_asks_for() -> None:
    command = [str(KUBERNETES / "make-secrets"), "prefect-atuh"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no Secret prefect-atuh" in done.stderr


# What runs without a cluster


def _on_this_machine(arguments: list[str]) -> list[str]:
    """Return a container's command with the programs and files of this machine in place of the image's."""
    program, *others = [word.replace("/etc/advfeat", str(TEMPLATE.parent)) for word in arguments]
    return [str(shutil.which(program, path=PATH)), *others]


def _run(command: list[str], **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {**unconfigured(), "PATH": PATH, "NO_COLOR": "1", **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_servers_wait_for_the_migration(
    trial: list[Manifest], prefect_database: Path, tmp_path: Path
) -> None:
    command = _on_this_machine(container(trial, "Deployment/prefect-server", "database-is-migrated")["args"])
    assert (
        command[1:]
        == _on_this_machine(container(trial, "Deployment/prefect-services", "database-is-migrated")["args"])[
            1:
        ]
    )
    shutil.copy(prefect_database, tmp_path / "migrated.db")
    for name, ends_well in (("new.db", False), ("migrated.db", True)):
        address = f"sqlite+aiosqlite:///{tmp_path / name}"
        done = _run(command, PREFECT_SERVER_DATABASE_CONNECTION_URL=address, PREFECT_HOME=str(tmp_path))
        assert (done.returncode == 0) is ends_well, done.stderr


@pytest.fixture
def kubernetes_api() -> Iterator[tuple[str, list[tuple[str, Manifest]]]]:
    """What takes the place of Kubernetes: it accepts whatever is created, and remembers it."""
    created: list[tuple[str, Manifest]] = []

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            created.append((self.path, sent))
            answer = copy.deepcopy(sent)
            answer["metadata"] |= {"name": f"{sent['metadata']['generateName']}1", "uid": "1"}
            content = json.dumps(answer).encode()
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", created
    server.shutdown()
    server.server_close()


def test_the_worker_makes_a_job_of_a_run(
    trial: list[Manifest],
    prefect_api: dict[str, str],
    kubernetes_api: tuple[str, list[tuple[str, Manifest]]],
    tmp_path: Path,
) -> None:
    """The pool's container, `prefect deploy` as in the runbook, and the worker, as their pods run them."""
    address, created = kubernetes_api
    kubeconfig = tmp_path / "kubeconfig"
    here = {"cluster": "here", "user": "us"}
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "here", "cluster": {"server": address}}],
                "users": [{"name": "us", "user": {"token": "unused"}}],
                "contexts": [{"name": "here", "context": here}],
                "current-context": "here",
            }
        )
    )
    variables = {
        **_settings(trial, "clients"),
        **_settings(trial, "store"),
        **_settings(trial, "images"),
        **{
            entry["name"]: entry["value"].replace("$(ADVFEAT_NAMESPACE)", "advfeat")
            for entry in container(trial, "Deployment/prefect-worker", "prefect-worker")["env"]
            if "value" in entry
        },
        "ADVFEAT_NAMESPACE": "advfeat",
        "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_ENABLED": "false",  # it would watch what is not there
        "KUBECONFIG": str(kubeconfig),
        **prefect_api,
    }
    pool = _on_this_machine(container(trial, "Deployment/prefect-worker", "work-pool")["args"])
    for _ in range(2):  # as when its pod starts again
        done = _run(pool, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
    deploy = ["prefect", "--no-prompt", "deploy", "--prefect-file", str(ROOT / "deployments/prefect.yaml")]
    done = _run(_on_this_machine([*deploy, "--name", "d_det-kubernetes"]), **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    with prefect_client(prefect_api) as client:
        assert client.read_work_pool("kubernetes").base_job_template == json.loads(TEMPLATE.read_text())
        deployment = client.read_deployment_by_name("d_det/d_det-kubernetes")
        image = _settings(trial, "images")["ADVFEAT_IMAGE"]
        assert deployment.job_variables == {"image": image, "namespace": "advfeat"}
        run = client.create_flow_run_from_deployment(deployment.id)
    worker = container(trial, "Deployment/prefect-worker", "prefect-worker")["args"]
    once = [*_on_this_machine(worker), "--run-once"]
    once.remove("--with-healthcheck")  # its port may be another's
    done = _run(once, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(created) == 1, done.stdout + done.stderr
    path, job = created[0][0], as_taken(created[0][1])
    assert job["metadata"]["labels"]["prefect.io/flow-run-id"] == str(run.id)
    assert path == "/apis/batch/v1/namespaces/advfeat/jobs"
    text = json.dumps(job)
    assert prefect_api["PREFECT_API_AUTH_STRING"] not in text
    everything = [*trial[:-1], job]
    assert schema_errors(job, VERSIONS[0]) == schema_errors(job, VERSIONS[1]) == []
    assert [finding for rule in RULES for finding in rule(everything, given())] == []
    (ours,) = job["spec"]["template"]["spec"]["containers"]
    assert ours["args"] == ["join-ray", "prefect", "flow-run", "execute"]
    assert ours["image"] == image
    reference = {"secretKeyRef": {"name": "prefect-auth", "key": "auth-string"}}
    assert {"name": "PREFECT_API_AUTH_STRING", "valueFrom": reference} in ours["env"]


# The runbook


def _calls(program: str) -> list[list[str]]:
    return [words for block in BLOCKS for words, _ in commands(block) if words[0] == program]


@functools.cache
def _known_options(*verb: str) -> frozenset[str]:
    shown = subprocess.run([str(KUBECTL), *verb], capture_output=True, text=True, check=True).stdout
    return frozenset(re.findall(r"(--[a-z-]+)=", shown))


def test_kubectl_has_the_commands_and_options() -> None:
    calls = _calls("kubectl")
    assert {"apply", "create", "exec", "get", "kustomize", "label", "taint", "wait"} <= {
        call[1] for call in calls
    }
    for call in calls:
        own = call[1 : call.index("--")] if "--" in call else call[1:]
        options = [word.split("=")[0] for word in own if word.startswith("--")]
        verbs = [own[0]]
        if own[0] in {"create", "config", "rollout"}:
            verbs += [word for word in own[1:3] if not word.startswith("-")][: 2 if "secret" in own else 1]
        assert set(options) <= _known_options(*verbs, "--help") | _known_options("options"), call


def test_secrets_of_a_site_are_made_as_the_runbook_says(tmp_path: Path) -> None:
    """Its commands, on files as it describes them, but for the last step: nothing is sent."""
    for name in ("database-password", "redis-password"):
        (tmp_path / name).write_text("right")
    (tmp_path / "store.env").write_text("AWS_ACCESS_KEY_ID=key\nAWS_SECRET_ACCESS_KEY=secret\n")
    (tmp_path / "docker-config.json").write_text('{"auths": {"registry.example.org": {"auth": "dTpw"}}}')
    certificate = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]
    certificate += ["-subj", "/CN=prefect.example.org", "-out", "certificate.pem", "-keyout", "key.pem"]
    subprocess.run(certificate, cwd=tmp_path, capture_output=True, check=True)
    made = {}
    for call in _calls("kubectl"):
        if call[1:3] == ["create", "secret"]:
            done = subprocess.run(
                [str(KUBECTL), *call[1:], "--dry-run=client", "--output=yaml"],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            secret = yaml.safe_load(done.stdout)
            assert schema_errors(secret, VERSIONS[0]) == []
            made[secret["metadata"]["name"]] = set(secret["data"])
    keys = {name: given().secrets[name] for name in ("prefect-database", "store")}
    keys |= {
        "prefect-redis": {"password"},
        "prefect-tls": {"tls.crt", "tls.key"},
        "registry": {".dockerconfigjson"},
    }
    assert made == keys


def test_the_password_of_the_database_is_changed_as_the_runbook_says() -> None:
    (template,) = re.findall(r"--output (go-template='ALTER USER .*?}}')", RUNBOOK)
    secret = "kubectl create secret generic prefect-database --from-literal=password=new --dry-run=client"
    command = f"{secret} --output {template}".replace("kubectl", str(KUBECTL), 1)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("ALTER USER prefect PASSWORD 'new'", "")


def test_the_runbook_names_what_the_overlays_have() -> None:
    names = {
        f"{m['kind'].lower()}/{m['metadata'].get('name')}"
        for overlay in OVERLAYS
        for m in rendered_list(overlay)
    }
    names |= {"service/advfeat-ray-head-svc", "crd/rayclusters.ray.io"}  # KubeRay's
    named = {word for call in _calls("kubectl") for word in call if re.fullmatch(r"[a-z]+/[\w.-]+", word)}
    assert {word for word in named if not word.startswith(("advfeat/", "deployments/"))} - names == set()
    assert {"job/prefect-migrate", "deployment/prefect-worker", "service/prefect-server"} <= named
    for call in _calls("kubectl"):
        for word in call:
            path = word.replace("$OVERLAY", "deployments/kubernetes/overlays/trial")
            assert not path.startswith("deployments/") or (ROOT / path).exists(), word


def rendered_list(overlay: str) -> list[Manifest]:
    return list(rendered(KUBERNETES / "overlays" / overlay))


def test_what_pods_are_told_to_run_exists() -> None:
    """The commands within `kubectl exec`, and those of containers."""
    inner = [call[call.index("--") + 1 :] for call in _calls("kubectl") if "--" in call]
    scripts = [words for words in inner if words[:2] == ["sh", "-c"]]
    lines = [words for words in inner if words[0] == "prefect"]
    lines += [words for script in scripts for words, _ in commands(script[2]) if words[0] == "prefect"]
    assert len(lines) == 2
    for pod in pods(rendered_list("trial")):
        for c in pod.containers:
            lines += [c["args"]] if c.get("args", [""])[0] == "prefect" else []
    for words in lines:
        check_program(words)


def test_the_runbook_says_how_each_setting_looks() -> None:
    site = yaml.safe_load((KUBERNETES / "overlays/site/kustomization.yaml").read_text())
    literals = [literal for entry in site["configMapGenerator"] for literal in entry["literals"]]
    for name in (literal.partition("=")[0] for literal in literals):
        assert f"`{name}`" in RUNBOOK or name == "AWS_DEFAULT_REGION", name
