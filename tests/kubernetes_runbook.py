"""``deployments/runbook.md``: its commands for Kubernetes, and what somebody who follows them makes."""

import functools
import re
import subprocess
from pathlib import Path

import yaml

from tests.kubernetes_manifests import KUBERNETES
from tests.kubernetes_rules import Given
from tests.shell_blocks import commands

RUNBOOK = (Path(__file__).parent.parent / "deployments/runbook.md").read_text()
_BLOCKS = [block for block in re.findall(r"```sh\n(.*?)```", RUNBOOK, re.DOTALL) if "kubectl" in block]


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


def calls(program: str) -> list[list[str]]:
    """Return the calls of a program, word by word."""
    return [words for block in _BLOCKS for words, _ in commands(block) if words[0] == program]
