"""What of Kubernetes runs on this machine: ``make-secrets``, the runbook's commands, containers' programs."""

import copy
import functools
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.command import unconfigured
from tests.kubernetes_manifests import (
    KUBECTL,
    KUBERNETES,
    OVERLAYS,
    TEMPLATE,
    Manifest,
    as_taken,
    container,
    everything,
    needs_kubectl,
    pods,
    settings,
)
from tests.kubernetes_rules import RULES
from tests.kubernetes_runbook import RUNBOOK, calls, given
from tests.kubernetes_schemas import VERSIONS, schema_errors
from tests.servers import prefect_client
from tests.shell_blocks import check_program, commands

pytestmark = needs_kubectl
ROOT = KUBERNETES.parent.parent
PATH = f"{Path(sys.executable).parent}:/usr/bin:/bin"

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
    login = first["prefect-auth"]
    assert login["auth-string"] == f"{login['username']}:{login['password']}"
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


def test_servers_wait_for_the_migration(prefect_database: Path, tmp_path: Path) -> None:
    trial = everything("trial")
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
    prefect_api: dict[str, str],
    kubernetes_api: tuple[str, list[tuple[str, Manifest]]],
    tmp_path: Path,
) -> None:
    """The pool's container, `deploy.py` as in the runbook, and the worker, as their pods run them."""
    trial = everything("trial")
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
        **settings(trial, "clients"),
        **settings(trial, "store"),
        **settings(trial, "images"),
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
    deploy = ["python", str(ROOT / "deployments" / "deploy.py"), "d_det-kubernetes"]
    done = _run(_on_this_machine(deploy), **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    with prefect_client(prefect_api) as client:
        assert client.read_work_pool("kubernetes").base_job_template == json.loads(TEMPLATE.read_text())
        deployment = client.read_deployment_by_name("d_det/d_det-kubernetes")
        image = settings(trial, "images")["ADVFEAT_IMAGE"]
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
    with_job = [*trial[:-1], job]
    assert schema_errors(job, VERSIONS[0]) == schema_errors(job, VERSIONS[1]) == []
    assert [finding for rule in RULES for finding in rule(with_job, given())] == []
    (ours,) = job["spec"]["template"]["spec"]["containers"]
    assert ours["args"] == ["join-ray", "prefect", "flow-run", "execute"]
    assert ours["image"] == image
    reference = {"secretKeyRef": {"name": "prefect-auth", "key": "auth-string"}}
    assert {"name": "PREFECT_API_AUTH_STRING", "valueFrom": reference} in ours["env"]


# The runbook


@functools.cache
def _known_options(*verb: str) -> frozenset[str]:
    shown = subprocess.run([str(KUBECTL), *verb], capture_output=True, text=True, check=True).stdout
    return frozenset(re.findall(r"(--[a-z-]+)=", shown))


def test_kubectl_has_the_commands_and_options() -> None:
    found = calls("kubectl")
    assert {"apply", "create", "exec", "get", "kustomize", "label", "taint", "wait"} <= {
        call[1] for call in found
    }
    for call in found:
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
    for call in calls("kubectl"):
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
        for m in everything(overlay)
    }
    names |= {"service/advfeat-ray-head-svc", "crd/rayclusters.ray.io"}  # KubeRay's
    named = {word for call in calls("kubectl") for word in call if re.fullmatch(r"[a-z]+/[\w.-]+", word)}
    assert {word for word in named if not word.startswith(("advfeat/", "deployments/"))} - names == set()
    assert {"job/prefect-migrate", "deployment/prefect-worker", "service/prefect-server"} <= named
    for call in calls("kubectl"):
        for word in call:
            path = word.replace("$OVERLAY", "deployments/kubernetes/overlays/trial")
            assert not path.startswith("deployments/") or (ROOT / path).exists(), word


def test_what_pods_are_told_to_run_exists() -> None:
    """The commands within `kubectl exec`, and those of containers."""
    inner = [call[call.index("--") + 1 :] for call in calls("kubectl") if "--" in call]
    scripts = [words for words in inner if words[:2] == ["sh", "-c"]]
    lines = [words for words in inner if words[0] == "prefect"]
    lines += [words for script in scripts for words, _ in commands(script[2]) if words[0] == "prefect"]
    assert len(lines) == 1
    assert ["python", "/tmp/deploy.py", "*-kubernetes"] in inner
    for file in ("deploy.py", "prefect.yaml"):
        assert ["sh", "-c", f"cat > /tmp/{file}", "<", f"deployments/{file}"] in scripts
        assert (ROOT / "deployments" / file).is_file()
    for pod in pods(everything("trial")):
        for c in pod.containers:
            lines += [c["args"]] if c.get("args", [""])[0] == "prefect" else []
    for words in lines:
        check_program(words)


def test_the_runbook_says_how_each_setting_looks() -> None:
    site = yaml.safe_load((KUBERNETES / "overlays/site/kustomization.yaml").read_text())
    literals = [literal for entry in site["configMapGenerator"] for literal in entry["literals"]]
    for name in (literal.partition("=")[0] for literal in literals):
        assert f"`{name}`" in RUNBOOK or name == "AWS_DEFAULT_REGION", name
