"""The schemas of manifests: those of Kubernetes, and of the operators that we use (``tests/schemas``)."""

import functools
import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.kubernetes_manifests import Manifest

VERSIONS = ("1.29", "1.37")
"""The oldest Kubernetes that the runbook promises, and the newest whose schemas we have."""
_OF_OPERATORS = {"RayCluster": "ray-cluster.json", "PodMonitor": "pod-monitor.json"}


@functools.cache
def _validator(kind: str, api_version: str, kubernetes: str) -> Draft202012Validator:
    """Return what refuses manifests of a kind, fields that nobody knows included."""
    version = {"1.29": "v1.29.0", "1.37": "v1.37.0"}[kubernetes]
    folder = Path(kubernetes_validate.__file__).parent / f"kubernetes-json-schema/{version}-local-strict"
    if kind in _OF_OPERATORS:
        schema = Path(__file__).parent / "schemas" / _OF_OPERATORS[kind]
    else:
        schema = folder / f"{kind.lower()}-{re.sub(r'[.][^/]*', '', api_version).replace('/', '-')}.json"
    return Draft202012Validator(json.loads(schema.read_text()), registry=_definitions(folder))


@functools.cache
def _definitions(folder: Path) -> "Registry[Any]":
    content = json.loads((folder / "_definitions.json").read_text())
    return DRAFT202012.create_resource(content) @ Registry()


def schema_errors(manifest: Manifest, kubernetes: str) -> list[str]:
    """Return what a version of Kubernetes would refuse in a manifest, one line each."""
    found = _validator(manifest["kind"], manifest["apiVersion"], kubernetes).iter_errors(manifest)
    return [f"{manifest['kind']}: {error.json_path}: {error.message[:300]}" for error in found]
