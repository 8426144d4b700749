"""The rules of ``kubernetes_rules.py``: all manifests keep them, and each sees what is against it."""

import copy
import re
from collections.abc import Callable

import pytest

from tests import kubernetes_rules as rules
from tests.kubernetes_manifests import (
    COMPONENTS,
    OVERLAYS,
    Manifest,
    everything,
    named,
    needs_kubectl,
    settings,
)
from tests.kubernetes_rules import RULES, Given, Rule
from tests.kubernetes_runbook import RUNBOOK, given

pytestmark = needs_kubectl

# What manifests keep


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", [*OVERLAYS, *COMPONENTS])
def test_manifests_keep_the_rules(name: str, rule: Rule) -> None:
    assert list(rule(everything(name), given())) == []


def test_the_commands_for_a_site_make_all_secrets_that_it_asks_for() -> None:
    made = {"prefect-auth": given().secrets["prefect-auth"]}
    assert "make-secrets prefect-auth |" in RUNBOOK
    for name, options in re.findall(r"kubectl create secret \S+ (\S+)(.*)", RUNBOOK):
        made[name] = set(re.findall(r"--from-file=(\S+?)=", options))
    assert list(rules.references_lead_somewhere(everything("site"), Given(made, RUNBOOK))) == []


def test_kuberay_is_asked_for_where_nobody_installs_it() -> None:
    assert list(rules.prerequisites_are_named(everything("trial"), Given({}, runbook="")))


def test_the_prometheus_operator_is_asked_for_where_nobody_installs_it() -> None:
    findings = rules.prerequisites_are_named(everything("monitoring"), Given({}, runbook=""))
    assert "PodMonitor/ray: nobody installs the Prometheus operator" in list(findings)


# What the rules see


def _pod(manifests: list[Manifest], name: str = "prefect-server") -> Manifest:
    pod: Manifest = named(manifests, "Deployment", name)["spec"]["template"]["spec"]
    return pod


def _first(manifests: list[Manifest], name: str = "prefect-server") -> Manifest:
    found: Manifest = _pod(manifests, name)["containers"][0]
    return found


def _monitor(manifests: list[Manifest], name: str) -> Manifest:
    (endpoint,) = named(manifests, "PodMonitor", name)["spec"]["podMetricsEndpoints"]
    found: Manifest = endpoint
    return found


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
        lambda m: named(m, "RayCluster", "advfeat-ray")["spec"]["autoscalerOptions"].pop("securityContext"),
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
        lambda m: settings(m, "prefect-server").update(
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
        lambda m: named(m, "RayCluster", "advfeat-ray")["spec"].pop("authOptions"),
        "nobody makes the Secret advfeat-ray",
    ),
    (
        rules.references_lead_somewhere,
        lambda m: m.remove(named(m, "ServiceAccount", "prefect-worker")),
        "no account prefect-worker",
    ),
    (
        rules.references_lead_somewhere,
        lambda m: _first(m)["volumeMounts"].append({"name": "cache", "mountPath": "/cache"}),
        "no volume cache",
    ),
    (
        rules.references_lead_somewhere,
        lambda m: _monitor(m, "prefect-server")["basicAuth"]["username"].update(key="user"),
        "nobody makes the Secret prefect-auth with user",
    ),
    (
        rules.selectors_find_pods,
        lambda m: named(m, "Service", "redis")["spec"].update(selector={"app": "redis"}),
        "no pod has {'app': 'redis'}",
    ),
    (
        rules.selectors_find_pods,
        lambda m: named(m, "NetworkPolicy", "redis")["spec"]["ingress"][0]["from"][0]["podSelector"][
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
        lambda m: named(m, "StatefulSet", "redis")["spec"].update(ingressClassName="traefik"),
        "traefik",
    ),
    (
        rules.ports_are_open,
        lambda m: named(m, "Service", "prefect-server")["spec"]["ports"][0].update(targetPort="http"),
        "port http",
    ),
    (
        rules.ports_are_open,
        lambda m: _first(m)["livenessProbe"]["httpGet"].update(port="http"),
        "livenessProbe asks port http",
    ),
    (
        rules.ports_are_open,
        lambda m: named(m, "NetworkPolicy", "redis")["spec"]["ingress"][0].update(ports=[{"port": "db"}]),
        "port db",
    ),
    (
        rules.ports_are_open,
        lambda m: _monitor(m, "ray").update(port="dashboard"),  # which the head alone has
        "no pod with {'app.kubernetes.io/component': 'ray-worker'} has the port dashboard",
    ),
    (
        rules.addresses_are_answered,
        lambda m: settings(m, "clients").update(PREFECT_API_URL="http://prefect:4200/api"),
        "no service prefect",
    ),
    (
        rules.addresses_are_answered,
        lambda m: settings(m, "clients").update(RAY_ADDRESS="advfeat-ray-head-svc:6380"),
        "no port 6380",
    ),
    (
        rules.addresses_are_answered,
        lambda m: settings(m, "prefect-server").update(REDIS_PORT="6380"),
        "no port 6380",
    ),
    (rules.quotas_have_room, lambda m: m.append(_quota("2")), "requests.cpu is 2"),
]


@pytest.mark.parametrize(("rule", "violate", "finding"), VIOLATIONS)
def test_the_rules_see_what_is_against_them(rule: Rule, violate: Violation, finding: str) -> None:
    # One that shares nothing: YAML's anchors are resolved.
    broken = copy.deepcopy(list(everything("network-policies", "monitoring")))
    violate(broken)
    assert any(finding in found for found in rule(broken, given())), list(rule(broken, given()))


def test_every_rule_is_tested_with_what_is_against_it() -> None:
    assert {rule for rule, _, _ in VIOLATIONS} == set(RULES)
