"""``deployments/kubernetes`` as kustomize renders it: against schemas, and in agreement with itself."""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import ray
import yaml
from ray.scripts.scripts import start as ray_start

from advfeat import __version__
from tests import kubernetes_rules as rules
from tests.kubernetes_manifests import (
    COMPONENTS,
    KUBERNETES,
    OVERLAYS,
    SERVICES,
    Manifest,
    container,
    everything,
    named,
    needs_kubectl,
    pods,
    settings,
)
from tests.kubernetes_runbook import RUNBOOK
from tests.kubernetes_schemas import VERSIONS, schema_errors
from tests.topology import SERVICES as COMPOSE_SERVICES

pytestmark = needs_kubectl


@pytest.mark.parametrize("kubernetes", VERSIONS)
@pytest.mark.parametrize("name", [*OVERLAYS, *COMPONENTS])
def test_manifests_follow_the_schemas(name: str, kubernetes: str) -> None:
    assert [error for manifest in everything(name) for error in schema_errors(manifest, kubernetes)] == []


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
        ("PodMonitor", lambda m: m["spec"].pop("selector")),
        ("PodMonitor", lambda m: m["spec"]["podMetricsEndpoints"][0].update(targetPorts="metrics")),
        ("PodMonitor", lambda m: m["spec"].update(endpoints=[])),
    ],
)
def test_the_schemas_see_a_slip_of_the_pen(kind: str, misspell: Callable[[Manifest], object]) -> None:
    manifests = everything("network-policies", "monitoring")
    manifest = copy.deepcopy(next(m for m in manifests if m["kind"] == kind))
    misspell(manifest)
    assert len(schema_errors(manifest, VERSIONS[-1])) == 1


# One place


def test_an_address_stands_in_one_file() -> None:
    base = (KUBERNETES / "base/kustomization.yaml").read_text()
    files = [path for path in KUBERNETES.rglob("*") if path.is_file() and path.name != "kustomization.yaml"]
    files.append(KUBERNETES.parent / "prefect.yaml")
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
    site = everything("site")
    images = settings(site, "images")
    found = {c["image"] for pod in pods(site) for c in pod.containers}
    assert found == {images["ADVFEAT_IMAGE"], images["ADVFEAT_GPU_IMAGE"]}
    assert images["ADVFEAT_IMAGE"].startswith("registry.example.org/")
    gpu = _ray_cluster("site")["workerGroupSpecs"][1]
    assert gpu["template"]["spec"]["containers"][0]["image"] == images["ADVFEAT_GPU_IMAGE"]


def test_the_ingress_has_the_host_of_the_interface() -> None:
    site = everything("site")
    (ingress,) = [m["spec"] for m in site if m["kind"] == "Ingress"]
    assert (
        f"https://{ingress['rules'][0]['host']}/api"
        == settings(site, "prefect-server")["PREFECT_SERVER_UI_API_URL"]
    )
    assert ingress["tls"][0]["hosts"] == [ingress["rules"][0]["host"]]


def test_prefect_is_set_as_on_one_machine() -> None:
    trial = everything("trial")
    compose = COMPOSE_SERVICES["prefect-server"]["environment"]
    variables = [c["name"] for c in container(trial, "Deployment/prefect-server", "prefect-server")["env"]]
    ours = {**settings(trial, "prefect-server"), **dict.fromkeys(variables)}
    assert {name.removesuffix("_FILE") for name in compose} - ours.keys() == set()
    assert {name: ours[name] for name in compose.keys() & settings(trial, "prefect-server").keys()} == {
        name: value for name, value in compose.items() if name in settings(trial, "prefect-server")
    }
    for name in SERVICES:
        assert container(trial, f"StatefulSet/{name}", name)["image"] == COMPOSE_SERVICES[name]["image"]


# Size


def test_the_trial_fits_where_the_runbook_says() -> None:
    told = re.search(r"\| (\d+) cores and (\d+) GB that are free", RUNBOOK)
    assert told
    for name, there in (("cpu", int(told[1])), ("memory", int(told[2]) * 10**9)):
        asked = [
            rules.quantity(c["resources"]["requests"][name])
            for pod in pods(everything("trial"))
            for c in pod.spec["containers"]
        ]
        assert there * 0.8 < sum(asked) <= there


# Ray


def _ray_cluster(*names: str) -> dict[str, Any]:
    spec: dict[str, Any] = copy.deepcopy(named(everything(*names), "RayCluster", "advfeat-ray")["spec"])
    return spec


def test_ray_cluster_is_of_the_installed_ray() -> None:
    spec = _ray_cluster("trial")
    assert spec["rayVersion"] == ray.__version__
    flags = {flag for parameter in ray_start.params for flag in parameter.opts}
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    assert {f"--{name}" for group in groups for name in group["rayStartParams"]} <= flags


def test_a_silent_ray_node_is_given_up_in_less_than_20_seconds() -> None:
    head = _ray_cluster("trial")["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]
    variables = {entry["name"]: int(entry["value"]) for entry in head}
    period, timeout, tries = (
        variables[f"RAY_health_check_{name}"] for name in ("period_ms", "timeout_ms", "failure_threshold")
    )
    assert (period + timeout) * tries < 20_000


def test_worker_groups_differ_where_they_must() -> None:
    """The group for GPUs is a copy of the other."""
    cpu, gpu = _ray_cluster("site")["workerGroupSpecs"]
    pod, other = cpu["template"]["spec"], gpu["template"]["spec"]
    for name in ("image", "resources"):
        del pod["containers"][0][name], other["containers"][0][name]
    other["tolerations"] = [entry for entry in other["tolerations"] if entry["key"] != "nvidia.com/gpu"]
    assert pod == other


@pytest.mark.parametrize("names", [("spot", "gpus"), ("gpus", "spot")])
def test_gpus_are_not_on_spot_instances_unless_told(names: tuple[str, str]) -> None:
    cpu, gpu = (group["template"]["spec"] for group in _ray_cluster(*names)["workerGroupSpecs"])
    assert "nodeSelector" in cpu
    assert "nodeSelector" not in gpu
    assert [entry["key"] for entry in gpu["tolerations"]] == ["nvidia.com/gpu"]


# Prometheus


def test_prometheus_is_let_in_where_it_asks() -> None:
    """Its rules say of each pod and port what a monitor names, and nothing else."""
    manifests = everything("network-policies", "monitoring")
    asked = {
        (name, endpoint["port"])
        for monitor in manifests
        if monitor["kind"] == "PodMonitor"
        for name in _selected(monitor["spec"]["selector"])
        for endpoint in monitor["spec"]["podMetricsEndpoints"]
    }
    let_in = {
        (name, port["port"])
        for policy in manifests
        if policy["kind"] == "NetworkPolicy"
        for rule in policy["spec"].get("ingress", [])
        if "prometheus-system" in str(rule["from"])
        for name in _selected(policy["spec"]["podSelector"])
        for port in rule["ports"]
    }
    assert asked == let_in
    assert {name for name, _ in asked} == {"flow-run", "ray-head", "ray-worker", "prefect-server"}


def _selected(selector: dict[str, Any]) -> list[str]:
    """Return the components of this software whose pods a selector finds."""
    label = "app.kubernetes.io/component"
    (values,) = [entry["values"] for entry in selector.get("matchExpressions", [])] or [
        [selector["matchLabels"][label]]
    ]
    return list(values)


def test_prometheus_asks_prefect_as_on_one_machine() -> None:
    scrapes = yaml.safe_load((KUBERNETES.parent / "prometheus.yml").read_text())["scrape_configs"]
    (path,) = [entry["metrics_path"] for entry in scrapes if entry["job_name"] == "prefect"]
    monitor = named(everything("monitoring"), "PodMonitor", "prefect-server")
    assert [endpoint["path"] for endpoint in monitor["spec"]["podMetricsEndpoints"]] == [path]


def test_the_node_of_a_run_hands_out_metrics_where_its_pod_says() -> None:
    manifests = everything("monitoring")
    (port,) = manifests[-1]["spec"]["template"]["spec"]["containers"][0]["ports"]
    told = settings(manifests, "clients")["ADVFEAT_METRICS_PORT"]
    assert port == {"name": "metrics", "containerPort": int(told)}
