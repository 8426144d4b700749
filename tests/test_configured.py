"""What the user configured is used as it is and never stopped: Prefect server, Ray cluster, S3."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
import ray

from advfeat.flows.walk.ray_cluster import configured_runner
from tests.command import QUICK_D_RAND, Command
from tests.datasets_page import LEARNING, WITH_RAY
from tests.exposure import Exposure, assert_private, files_with, run_and_look
from tests.servers import BUCKET, prefect_client, ray_cluster, s3_client


def flow_runs(server: dict[str, str]) -> dict[str, str | None]:
    """Return the name of the state of each flow run that a Prefect server knows."""
    with prefect_client(server) as client:
        return {str(run.id): run.state_name for run in client.read_flow_runs()}


def accuracy_by_ray_data(command: Command) -> float:
    """Export a data set and the real images; run the page's lines that load it with Ray Data and learn."""
    oldest_last = reversed(json.loads(command.succeed("ls", "--json")))
    artifacts = {entry["stage"]: entry["digest"] for entry in oldest_last}
    command.succeed("export", artifacts["dataset"], "d_rand-parquet", "--to", "parquet")
    command.succeed("export", artifacts["images"], "digits", "--to", "parquet")
    process = command.start(["-c", f"{WITH_RAY}\n{LEARNING}\nprint(accuracy)"], program="python")
    printed, problems = process.communicate(timeout=300)
    assert process.returncode == 0, problems
    return float(printed.split()[-1])


def assert_secrets_show_nowhere(exposure: Exposure, prefect: dict[str, str], s3: dict[str, str]) -> None:
    """Look for them in files, in the Prefect database, in S3 and in what Prefect's API tells."""
    assert len(exposure.secrets) == 3
    assert len(exposure.folders) == 3
    assert len(exposure.ports) >= 13, "one of Prefect, eight of SeaweedFS, and those of Ray"
    found = files_with(exposure.secrets, *exposure.folders)
    assert {file.name for file in found} == {"login", "s3.json"}
    for file in found:
        assert_private(file)
        assert {other.name for other in file.parent.iterdir()} & {"key.pem", "prefect.db"}
    everything = b"".join(map(s3_client(s3).cat_file, s3_client(s3).find(f"{BUCKET}/runs")))
    with prefect_client(prefect) as client:
        everything += client.request("GET", "/admin/settings").content
    assert not [secret for secret in exposure.secrets if secret.encode() in everything]


def test_a_run_on_s3(served_command: Command, s3: dict[str, str], prefect_api: dict[str, str]) -> None:
    served_command.extra = {**served_command.extra, **s3}
    store = ("--store", f"s3://{BUCKET}/runs/one")
    secrets = {prefect_api["PREFECT_API_AUTH_STRING"].partition(":")[2]}
    first, exposure = run_and_look(served_command, *QUICK_D_RAND, *store, secrets=secrets)
    assert first["stages"]["computed"] == first["stages"]["total"]
    second = json.loads(served_command.succeed("run", "--json", *QUICK_D_RAND, *store))
    assert second["stages"]["cached"] == second["stages"]["total"]
    assert second["rows"] == first["rows"]
    listed = json.loads(served_command.succeed("ls", "--json", *store))
    (dataset,) = [
        entry
        for entry in listed
        if entry["digest"]
        == next(
            plan["digest"]
            for plan in json.loads(served_command.succeed("plan", "--json", *QUICK_D_RAND, *store))
            if plan["title"] == "data set d_rand, seed 0"
        )
    ]
    (path,) = s3_client(s3).glob(f"{dataset['uri']}/*.parquet")
    with s3_client(s3).open(path) as file:
        assert len(pd.read_parquet(file)) == 384
    assert served_command.succeed("verify", *store).splitlines()[-1].endswith(" 0 damaged")
    assert_secrets_show_nowhere(exposure, prefect_api, s3)
    assert served_command.left_processes(3) == []


OWN_NETWORK = """
import os
from torch import nn

def make(channels, classes):
    with open({pids!r}, "a") as file:
        print(os.getpid(), file=file)
    first = nn.Conv2d(channels, 16, 3), nn.BatchNorm2d(16), nn.ReLU()
    return nn.Sequential(*first, nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(64, classes))
"""


def test_a_run_on_a_users_server_and_cluster(tmp_path: Path, prefect_api: dict[str, str]) -> None:
    before = len(flow_runs(prefect_api))
    with ray_cluster(tmp_path, cores=2) as cluster:
        command = Command(tmp_path, prefect_api | cluster)
        result = json.loads(command.succeed("run", "--json", *QUICK_D_RAND))
        assert command.left_processes(10) == [], "no server, no Ray of our own; workers end with the run"
        (tmp_path / "net.py").write_text(OWN_NETWORK.format(pids=str(tmp_path / "pids")))
        again = command.start(["run", "--json", *QUICK_D_RAND, "--set", "target.model=net.py:make"])
        printed, problems = again.communicate(timeout=400)
        assert again.returncode == 0, problems
        assert json.loads(printed)["stages"]["computed"] == 3, "target model, evaluation, report"
        builders = set(map(int, (tmp_path / "pids").read_text().split()))
        assert again.pid in builders, "the plan tries it"
        assert builders - {again.pid}, "a worker of the cluster trains it"
        assert accuracy_by_ray_data(command) > 0.5, "a network learns from what Ray Data read; chance is 0.1"
    assert result["stages"]["computed"] == result["stages"]["total"]
    runs = flow_runs(prefect_api)
    assert len(runs) == before + 2
    assert runs[result["run"]] == "Completed"
    assert not (tmp_path / ".advfeat" / "prefect").exists()
    assert not ray.is_initialized()


def test_a_worker_that_imports_flows_keeps_its_clusters_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "of the cluster")
    before = dict(os.environ)
    configured_runner()
    assert dict(os.environ) == before
