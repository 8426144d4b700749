"""What no schema says of manifests. Each rule returns its findings, one line each."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.kubernetes_manifests import Manifest, Pod, pods

SECRET = re.compile(
    "PASSWORD|PASSWD|AUTH_STRING|TOKEN|SECRET|ACCESS_KEY|API_KEY|CREDENTIAL|PRIVATE", re.IGNORECASE
)
_NO_SECRET = re.compile("(_SECRET_NAME|_SECRET_KEY|_PATH|_FILE|_MODE)$")
_LOGIN_IN_URL = re.compile(r"://[^/\s@]*:(?!\$\()[^/\s@]+@")
_UNITS: dict[str, Decimal | int] = {
    "": 1,
    "m": Decimal("0.001"),
    **{f"{unit}i": 1024**power for power, unit in enumerate("KMGT", start=1)},
    **{unit: 1000**power for power, unit in enumerate("kMGT", start=1)},
}


@dataclass(frozen=True)
class Given:
    """What others bring: people who follow the runbook, KubeRay, the cluster."""

    secrets: Mapping[str, set[str]]
    """Keys of Secrets that a command makes."""
    runbook: str = ""


def quantity(text: str | int) -> Decimal:
    """Return a quantity of Kubernetes (``500m``, ``2Gi``) as a number."""
    match = re.fullmatch(r"([\d.]+)(\w*)", str(text))
    assert match, text
    return Decimal(match[1]) * _UNITS[match[2]]


# Pods


def nobody_is_root(manifests: Sequence[Manifest], given: Given) -> Iterator[str]:
    """A pod runs as a user that is not root, in the runtime's seccomp profile."""
    for pod in pods(manifests):
        contexts = {"pod": pod.spec.get("securityContext", {})}
        if not contexts["pod"].get("runAsNonRoot") or not contexts["pod"].get("runAsUser"):
            yield f"{pod.owner}: may be root"
        if contexts["pod"].get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{pod.owner}: no seccomp profile"
        for container in pod.containers:
            context = container.get("securityContext", {})
            if context.get("runAsNonRoot") is False or context.get("runAsUser") == 0:
                yield f"{_named(pod, container)}: is root"


def nobody_gains_privileges(manifests: Sequence[Manifest], given: Given) -> Iterator[str]:
    """A container cannot become more than it is, nor reach its node."""
    for pod in pods(manifests):
        yield from (
            f"{pod.owner}: {field}"
            for field in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")
            if pod.spec.get(field)
        )
        for volume in pod.spec.get("volumes", []):
            if "hostPath" in volume:
                yield f"{pod.owner}: volume {volume['name']} is a folder of the node"
        for container in pod.containers:
            context = container.get("securityContext", {})
            if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
                yield f"{_named(pod, container)}: may gain privileges"
            if context.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{_named(pod, container)}: keeps capabilities"
            if not context.get("readOnlyRootFilesystem"):
                yield f"{_named(pod, container)}: may write to its image"
            if any("hostPort" in port for port in container.get("ports", [])):
                yield f"{_named(pod, container)}: listens on its node"


def everything_is_limited(manifests: Sequence[Manifest], given: Given) -> Iterator[str]:
    """A container says what it needs and what it gets at most; so does a volume of its pod."""
    for pod in pods(manifests):
        for container in pod.containers:
            resources = container.get("resources", {})
            for name in ("cpu", "memory"):
                asked, most = (resources.get(kind, {}).get(name) for kind in ("requests", "limits"))
                if asked is None or most is None:
                    yield f"{_named(pod, container)}: {name} has no request or no limit"
                elif quantity(asked) > quantity(most):
                    yield f"{_named(pod, container)}: asks for more {name} than its limit"
        for volume in pod.spec.get("volumes", []):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{pod.owner}: volume {volume['name']} has no limit"


def everything_is_watched(manifests: Sequence[Manifest], given: Given) -> Iterator[str]:
    """A container that stays has probes for its start, its readiness and its life."""
    for pod in pods(manifests):
        for container in pod.spec["containers"] if pod.stays else ():
            yield from (
                f"{_named(pod, container)}: no {probe}"
                for probe in ("startupProbe", "readinessProbe", "livenessProbe")
                if probe not in container and container["name"] != "autoscaler"  # KubeRay's, which takes none
            )


def images_are_pinned(manifests: Sequence[Manifest], given: Given) -> Iterator[str]:
    """An image has a version."""
    for pod in pods(manifests):
        for container in pod.containers:
            if not re.fullmatch(r"[\w./:-]+:\d+\.\d+[\w.-]*", container["image"]):
                yield f"{_named(pod, container)}: image {container['image']} has no version"


def environment_is_ours(manifests: Sequence[Manifest], given: Given) -> Iterator[str]:
    """A pod gets no variables of services and, unless it asks for an account, no key to Kubernetes."""
    for pod in pods(manifests):
        if pod.spec.get("enableServiceLinks") is not False:
            yield f"{pod.owner}: variables such as REDIS_PORT are those of services"
        # KubeRay gives the head an account for its autoscaler.
        has_account = pod.owner.endswith("/head") or "serviceAccountName" in pod.spec
        if not has_account and pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.owner}: gets a key to Kubernetes that it does not need"


# Secrets


def no_secret_is_written_down(manifests: Sequence[Manifest], given: Given) -> Iterator[str]:
    """No manifest holds a secret; variables and volumes refer to it."""
    for manifest in manifests:
        where = f"{manifest['kind']}/{manifest['metadata'].get('name')}"
        if manifest["kind"] == "Secret":
            yield f"{where}: its content would be in the repository"
        for name, value in _texts(manifest):
            if SECRET.search(name) and not _NO_SECRET.search(name) and not value.startswith("$("):
                yield f"{where}: {name} is written down"
            if _LOGIN_IN_URL.search(value):
                yield f"{where}: {name} has a password in its address"


def _texts(node: Any) -> Iterator[tuple[str, str]]:
    """Return the variables of containers and the entries of ConfigMaps."""
    if isinstance(node, dict):
        if isinstance(node.get("name"), str) and isinstance(node.get("value"), str):
            yield node["name"], node["value"]
        if node.get("kind") == "ConfigMap":
            yield from node["data"].items()
        for child in node.values():
            yield from _texts(child)
    if isinstance(node, list):
        for child in node:
            yield from _texts(child)


# What is asked for


def references_lead_somewhere(manifests: Sequence[Manifest], given: Given) -> Iterator[str]:
    """ConfigMaps, Secrets, their keys, volumes and accounts that a pod names are there."""
    of_kind = {
        "ConfigMap": {m["metadata"]["name"]: set(m["data"]) for m in manifests if m["kind"] == "ConfigMap"},
        "Secret": {**given.secrets, **_made_by_kuberay(manifests)},
    }
    accounts = {m["metadata"]["name"] for m in manifests if m["kind"] == "ServiceAccount"}
    for pod in pods(manifests):
        for kind, name, keys in _references(pod):
            if name not in of_kind[kind]:
                yield f"{pod.owner}: nobody makes the {kind} {name}"
            elif missing := keys - of_kind[kind][name]:
                yield f"{pod.owner}: the {kind} {name} has no {', '.join(sorted(missing))}"
        if pod.spec.get("serviceAccountName", "default") not in {"default", *accounts}:
            yield f"{pod.owner}: there is no account {pod.spec['serviceAccountName']}"
        volumes = {volume["name"] for volume in [*pod.spec.get("volumes", []), *_claims(manifests, pod)]}
        for container in pod.containers:
            asked = {mount["name"] for mount in container.get("volumeMounts", [])}
            yield from (f"{_named(pod, container)}: no volume {name}" for name in sorted(asked - volumes))
    for manifest in manifests:
        for subject in manifest.get("subjects", []) if manifest["kind"] == "RoleBinding" else []:
            if subject["name"] not in accounts:
                yield f"RoleBinding/{manifest['metadata']['name']}: there is no account {subject['name']}"
        for reference in _logins(manifest):
            if reference["key"] not in of_kind["Secret"].get(reference["name"], ()):
                where = f"{manifest['kind']}/{manifest['metadata']['name']}"
                yield f"{where}: nobody makes the Secret {reference['name']} with {reference['key']}"
        named = [tls["secretName"] for tls in manifest.get("spec", {}).get("tls", [])]
        named += [secret["name"] for secret in manifest.get("imagePullSecrets", [])]
        for secret in named:
            if secret not in of_kind["Secret"]:
                yield f"{manifest['kind']}/{manifest['metadata']['name']}: nobody makes the Secret {secret}"


def _references(pod: Pod) -> Iterator[tuple[str, str, set[str]]]:
    for container in pod.containers:
        for source in container.get("envFrom", []):
            (field, reference), *_ = source.items()
            yield {"configMapRef": "ConfigMap", "secretRef": "Secret"}[field], reference["name"], set()
        for variable in container.get("env", []):
            for field, reference in variable.get("valueFrom", {}).items():
                if field != "fieldRef":
                    kind = {"configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"}[field]
                    yield kind, reference["name"], {reference["key"]}
    for secret in pod.spec.get("imagePullSecrets", []):
        yield "Secret", secret["name"], set()
    for volume in pod.spec.get("volumes", []):
        if "configMap" in volume:
            keys = {item["key"] for item in volume["configMap"].get("items", [])}
            yield "ConfigMap", volume["configMap"]["name"], keys
        if "secret" in volume:
            keys = {item["key"] for item in volume["secret"].get("items", [])}
            yield "Secret", volume["secret"]["secretName"], keys


def _logins(manifest: Manifest) -> Iterator[dict[str, str]]:
    """Return the keys of Secrets with which Prometheus logs in."""
    for endpoint in manifest["spec"]["podMetricsEndpoints"] if manifest["kind"] == "PodMonitor" else []:
        yield from endpoint.get("basicAuth", {}).values()


def _made_by_kuberay(manifests: Iterable[Manifest]) -> dict[str, set[str]]:
    return {
        manifest["metadata"]["name"]: {"auth_token"}
        for manifest in manifests
        if manifest["kind"] == "RayCluster" and manifest["spec"].get("authOptions") == {"mode": "token"}
    }


def _claims(manifests: Iterable[Manifest], pod: Pod) -> Iterator[Manifest]:
    for manifest in manifests:
        if pod.owner == f"StatefulSet/{manifest['metadata'].get('name')}":
            yield from (claim["metadata"] for claim in manifest["spec"].get("volumeClaimTemplates", []))


def selectors_find_pods(manifests: Sequence[Manifest], given: Given) -> Iterator[str]:
    """Each selector finds a pod, for each of the values that it names."""
    all_labels = [pod.labels for pod in pods(manifests)]
    for manifest in manifests:
        for selector in _selectors(manifest):
            for labels in _alternatives(selector):
                if not any(labels.items() <= found.items() for found in all_labels):
                    yield f"{manifest['kind']}/{manifest['metadata']['name']}: no pod has {labels}"


def _selectors(manifest: Manifest) -> Iterator[dict[str, Any]]:
    if manifest["kind"] == "Service":
        yield {"matchLabels": manifest["spec"]["selector"]}
        return
    stack: list[Any] = [manifest]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield from (node[key] for key in ("selector", "podSelector", "labelSelector") if key in node)
            stack += node.values()
        if isinstance(node, list):
            stack += node


def _alternatives(selector: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    fixed = dict(selector.get("matchLabels", {}))
    choices = [(entry["key"], entry["values"]) for entry in selector.get("matchExpressions", [])]
    if not choices:
        yield fixed
    for key, values in choices:
        yield from ({**fixed, key: value} for value in values)


def nodes_are_described(manifests: Sequence[Manifest], given: Given) -> Iterator[str]:
    """The runbook says how nodes get the labels and taints that pods go by."""
    for pod in pods(manifests):
        for key, value in pod.spec.get("nodeSelector", {}).items():
            if not re.search(rf"kubectl label nodes? \S+ {re.escape(f'{key}={value}')}\s", given.runbook):
                yield f"{pod.owner}: nobody sets the label {key}={value}"
        for toleration in pod.spec.get("tolerations", []):
            taint = "=".join(filter(None, (toleration["key"], toleration.get("value"))))
            if f"{taint}:{toleration['effect']}" not in given.runbook:
                yield f"{pod.owner}: nobody sets the taint {taint}:{toleration['effect']}"
        for container in pod.containers:
            for resource in container.get("resources", {}).get("limits", {}):
                if "/" in resource and f"`{resource}`" not in given.runbook:
                    yield f"{pod.owner}: nobody offers {resource}"


def prerequisites_are_named(manifests: Sequence[Manifest], given: Given) -> Iterator[str]:
    """The runbook names the operators, classes and namespaces that must be there before."""
    for manifest in manifests:
        where, spec = f"{manifest['kind']}/{manifest['metadata'].get('name')}", manifest.get("spec", {})
        if manifest["apiVersion"].startswith("ray.io/") and "install kuberay-operator" not in given.runbook:
            yield f"{where}: nobody installs KubeRay"
        is_monitor = manifest["apiVersion"].startswith("monitoring.coreos.com/")
        if is_monitor and "prometheus-community/kube-prometheus-stack" not in given.runbook:
            yield f"{where}: nobody installs the Prometheus operator"
        if (name := spec.get("ingressClassName")) and f"ingress class `{name}`" not in given.runbook:
            yield f"{where}: nobody brings the ingress class {name}"
        if spec.get("volumeClaimTemplates") and "default storage class" not in given.runbook:
            yield f"{where}: nobody brings a storage class"
        for rule in spec.get("ingress", []) if manifest["kind"] == "NetworkPolicy" else []:
            for other in rule.get("from", []):
                name = (
                    other.get("namespaceSelector", {})
                    .get("matchLabels", {})
                    .get("kubernetes.io/metadata.name")
                )
                if name and f"namespace `{name}`" not in given.runbook:
                    yield f"{where}: nobody brings the namespace {name}"


def ports_are_open(manifests: Sequence[Manifest], given: Given) -> Iterator[str]:
    """Ports that services, probes, policies, monitors and addresses name are those of a pod or service."""
    found = list(pods(manifests))
    for pod in found:
        for container in pod.containers:
            names = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                port = container.get(probe, {}).get("httpGet", {}).get("port")
                if port is not None and port not in names:
                    yield f"{_named(pod, container)}: {probe} asks port {port}"
    for manifest in manifests:
        where, spec = f"{manifest['kind']}/{manifest['metadata'].get('name')}", manifest.get("spec", {})
        if manifest["kind"] == "Service":
            behind = _open_ports(found, {"matchLabels": spec["selector"]})
            asked = {port["targetPort"] for port in spec["ports"]}
            yield from (f"{where}: no pod behind it has the port {port}" for port in sorted(asked - behind))
        if manifest["kind"] == "NetworkPolicy" and spec["podSelector"]:
            behind = _open_ports(found, spec["podSelector"])
            asked = {port["port"] for rule in spec.get("ingress", []) for port in rule.get("ports", [])}
            yield from (f"{where}: no pod behind it has the port {port}" for port in sorted(asked - behind))
        if manifest["kind"] == "PodMonitor":
            asked = {endpoint["port"] for endpoint in spec["podMetricsEndpoints"]}
            for labels in _alternatives(spec["selector"]):
                missing = asked - _open_ports(found, {"matchLabels": labels})
                yield from (f"{where}: no pod with {labels} has the port {port}" for port in sorted(missing))
        if manifest["kind"] == "Ingress":
            for path in [path for rule in spec["rules"] for path in rule["http"]["paths"]]:
                backend = path["backend"]["service"]
                if backend["port"]["name"] not in _service_ports(manifests).get(backend["name"], {}):
                    yield f"{where}: there is no service {backend['name']} with its port"


def _open_ports(all_pods: Iterable[Pod], selector: Mapping[str, Any]) -> set[str]:
    """Return the ports that any of the selected pods has."""
    return {
        port["name"]
        for pod in all_pods
        if any(labels.items() <= pod.labels.items() for labels in _alternatives(selector))
        for container in pod.containers
        for port in container.get("ports", [])
    }


def _service_ports(manifests: Iterable[Manifest]) -> dict[str, dict[str, int]]:
    """Return the ports of services by name; KubeRay makes one for a head, with the ports of its container."""
    services = {}
    for manifest in manifests:
        name, spec = manifest["metadata"].get("name"), manifest.get("spec", {})
        if manifest["kind"] == "Service":
            services[name] = {port["name"]: port["port"] for port in spec["ports"]}
        if manifest["kind"] == "RayCluster":
            ports = spec["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
            services[f"{name}-head-svc"] = {port["name"]: port["containerPort"] for port in ports}
    return services


def addresses_are_answered(manifests: Sequence[Manifest], given: Given) -> Iterator[str]:
    """An address of a ConfigMap without a dot is that of a service here, with its port."""
    services = _service_ports(manifests)
    for manifest in manifests:
        data = manifest["data"] if manifest["kind"] == "ConfigMap" else {}
        for name, value in data.items():
            match = re.fullmatch(r"(?:https?://)?([\w.-]+):(\d+)(?:/.*)?", value)
            host, port = (match[1], match[2]) if match else (None, None)
            if name.endswith("_HOST"):
                host, port = value, data.get(f"{name.removesuffix('_HOST')}_PORT")
            if name.startswith("ADVFEAT_") or host is None or "." in host:
                continue
            if host not in services:
                yield f"{name}: there is no service {host}"
            elif port is None or int(port) not in services[host].values():
                yield f"{name}: the service {host} has no port {port}"


def quotas_have_room(manifests: Sequence[Manifest], given: Given) -> Iterator[str]:
    """A quota has room for all pods at the most of their groups."""
    hard = {k: v for m in manifests if m["kind"] == "ResourceQuota" for k, v in m["spec"]["hard"].items()}
    for name, most in hard.items():
        kind, _, resource = name.partition(".")
        needed = sum(
            quantity(container.get("resources", {}).get(kind, {}).get(resource, 0)) * pod.at_most
            for pod in pods(manifests)
            for container in pod.spec["containers"]
        )
        if kind in {"requests", "limits"} and needed > quantity(most):
            yield f"ResourceQuota: {name} is {most}, all pods take {needed:f}"


def _named(pod: Pod, container: Mapping[str, Any]) -> str:
    return f"{pod.owner}/{container['name']}"


Rule = Callable[[Sequence[Manifest], Given], Iterator[str]]
RULES: tuple[Rule, ...] = (
    nobody_is_root,
    nobody_gains_privileges,
    everything_is_limited,
    everything_is_watched,
    images_are_pinned,
    environment_is_ours,
    no_secret_is_written_down,
    references_lead_somewhere,
    selectors_find_pods,
    nodes_are_described,
    prerequisites_are_named,
    ports_are_open,
    addresses_are_answered,
    quotas_have_room,
)
