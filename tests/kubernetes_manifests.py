"""``deployments/kubernetes`` as Kubernetes is given it: rendered, and the pods that come of it."""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from prefect.utilities.templating import apply_values

KUBERNETES = Path(__file__).parent.parent / "deployments/kubernetes"
OVERLAYS = tuple(sorted(path.name for path in (KUBERNETES / "overlays").iterdir()))
COMPONENTS = tuple(sorted(path.name for path in (KUBERNETES / "components").iterdir()))
SERVICES = ("postgres", "redis", "seaweedfs")
"""Components without which the base's addresses lead nowhere."""
TEMPLATE = KUBERNETES / "base/job-template.json"
KUBECTL = shutil.which("kubectl", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

# What the component of a name cannot do without.
_NEEDS = {"spot-gpus": ["gpus", "spot-gpus"]}
needs_kubectl = pytest.mark.skipif(
    KUBECTL is None and sys.platform != "linux", reason="no kubectl, which is installed for Linux alone"
)

Manifest = dict[str, Any]


@functools.cache
def rendered(folder: Path) -> tuple[Manifest, ...]:
    """Return what ``kubectl apply --kustomize`` would send for a folder. It is shared: change copies."""
    done = subprocess.run([str(KUBECTL), "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.load_all(done.stdout, yaml.CSafeLoader))


@functools.cache
def everything(*names: str) -> tuple[Manifest, ...]:
    """Return an overlay, or components on the base and what all need; with the job of a run, the last."""
    if names[0] in OVERLAYS:
        found = rendered(KUBERNETES / "overlays" / names[0])
    else:
        needed = [component for name in names for component in _NEEDS.get(name, [name])]
        components = dict.fromkeys([*SERVICES, *needed, "names"])
        with TemporaryDirectory() as folder:
            found = rendered(_kustomization(Path(folder), list(components)))
    return (*found, flow_run(found))


def _kustomization(folder: Path, components: Sequence[str]) -> Path:
    """Write a kustomization of the base and some components, and return its folder."""
    content = {
        "resources": [os.path.relpath(KUBERNETES / "base", folder)],
        "components": [os.path.relpath(KUBERNETES / "components" / name, folder) for name in components],
        "namespace": "advfeat",
    }
    (folder / "kustomization.yaml").write_text(json.dumps(content))
    return folder


def flow_run(manifests: Sequence[Manifest]) -> Manifest:
    """Return the job that comes of the work pool's template, without what Prefect's worker adds to it."""
    template = json.loads(TEMPLATE.read_text())
    properties = template["variables"]["properties"]
    defaults = {name: field["default"] for name, field in properties.items() if "default" in field}
    given = {
        "name": "flow-run",
        "namespace": "advfeat",
        "image": settings(manifests, "images")["ADVFEAT_IMAGE"],
    }
    job: Manifest = apply_values(template["job_configuration"]["job_manifest"], {**defaults, **given})
    container = job["spec"]["template"]["spec"]["containers"][0]
    container.update({"args": container["args"].split(), "env": []})  # as the worker does
    return as_taken(job)


def as_taken(job: Manifest) -> Manifest:
    """Leave out what Prefect's worker insists on where Kubernetes knows no such fields, and ignores them."""
    for name in ("parallelism", "completions"):
        del job["spec"]["template"]["spec"][name]
    return job


@dataclass(frozen=True)
class Pod:
    """A pod that a manifest asks for."""

    owner: str
    labels: dict[str, str]
    spec: dict[str, Any]
    at_most: int
    """How many there are, at most."""

    @property
    def containers(self) -> list[dict[str, Any]]:
        """Return all its containers, those that prepare it first."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def stays(self) -> bool:
        """Tell whether it has to be watched, as it has no end of its own."""
        return not self.owner.startswith("Job/")


def pods(manifests: Sequence[Manifest]) -> Iterator[Pod]:
    """Return the pods of all manifests; those of Ray with what KubeRay adds: an autoscaler, a port."""
    for manifest in manifests:
        kind, spec = manifest["kind"], manifest.get("spec", {})
        owner = f"{kind}/{manifest['metadata'].get('name', manifest['metadata'].get('generateName'))}"
        if kind in {"Deployment", "StatefulSet", "Job"}:
            yield _pod(owner, spec["template"], spec.get("replicas", 1))
        if kind == "RayCluster":
            head = _pod(f"{owner}/head", spec["headGroupSpec"]["template"], 1)
            if spec.get("enableInTreeAutoscaling"):
                image = head.spec["containers"][0]["image"]
                autoscaler = {"name": "autoscaler", "image": image, **spec["autoscalerOptions"]}
                head.spec["containers"] = [*head.spec["containers"], autoscaler]
            yield _with_metrics(head)
            for group in spec["workerGroupSpecs"]:
                worker = _pod(f"{owner}/{group['groupName']}", group["template"], group["maxReplicas"])
                yield _with_metrics(worker)


def _with_metrics(pod: Pod) -> Pod:
    node, *others = pod.spec["containers"]
    port = {"name": "metrics", "containerPort": 8080}
    pod.spec["containers"] = [{**node, "ports": [*node.get("ports", []), port]}, *others]
    return pod


def _pod(owner: str, template: Manifest, at_most: int) -> Pod:
    return Pod(owner, template.get("metadata", {}).get("labels", {}), dict(template["spec"]), at_most)


def named(manifests: Iterable[Manifest], kind: str, name: str) -> Manifest:
    """Return the manifest of a kind and a name."""
    return next(m for m in manifests if (m["kind"], m["metadata"].get("name")) == (kind, name))


def settings(manifests: Iterable[Manifest], name: str) -> dict[str, str]:
    """Return the entries of a ConfigMap."""
    data: dict[str, str] = named(manifests, "ConfigMap", name)["data"]
    return data


def container(manifests: Sequence[Manifest], owner: str, name: str) -> dict[str, Any]:
    """Return the container of a name in the pod of an owner (``Deployment/prefect-server``)."""
    (found,) = [
        c for pod in pods(manifests) if pod.owner == owner for c in pod.containers if c["name"] == name
    ]
    return found


def variables(manifests: Sequence[Manifest]) -> Iterator[tuple[str, str | None]]:
    """Return the variables that containers get from manifests, with their values unless these are secret."""
    for manifest in manifests:
        if manifest["kind"] == "ConfigMap" and manifest["metadata"]["name"] != "job-template":
            yield from manifest["data"].items()
    for pod in pods(manifests):
        for container in pod.containers:
            yield from ((entry["name"], entry.get("value")) for entry in container.get("env", []))
