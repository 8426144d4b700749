"""What the user configured is used as it is and never stopped: Prefect server, Ray cluster, S3."""

import json
import urllib.request
from pathlib import Path

import pandas as pd
import ray

from tests.command import QUICK_D_RAND, Command
from tests.datasets_page import LEARNING, WITH_RAY
from tests.servers import BUCKET, ray_cluster, s3_client


def flow_runs(api: str) -> list[dict[str, object]]:
    request = urllib.request.Request(
        f"{api}/flow_runs/filter", data=b"{}", headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: list[dict[str, object]] = json.load(answer)
        return found


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


def test_a_run_on_s3(served_command: Command, s3: dict[str, str]) -> None:
    served_command.extra = {**served_command.extra, **s3}
    store = ("--store", f"s3://{BUCKET}/runs/one")
    first = json.loads(served_command.succeed("run", "--json", *QUICK_D_RAND, *store))
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
    everything = b"".join(map(s3_client(s3).cat_file, s3_client(s3).find(f"{BUCKET}/runs")))
    assert s3["AWS_SECRET_ACCESS_KEY"].encode() not in everything
    assert served_command.left_processes(3) == []


def test_a_run_on_a_users_server_and_cluster(tmp_path: Path, prefect_api: dict[str, str]) -> None:
    before = len(flow_runs(prefect_api["PREFECT_API_URL"]))
    with ray_cluster(tmp_path, cores=2) as cluster:
        command = Command(tmp_path, prefect_api | cluster)
        result = json.loads(command.succeed("run", "--json", *QUICK_D_RAND))
        assert command.left_processes(10) == [], "no server, no Ray of our own; workers end with the run"
        again = json.loads(command.succeed("run", "--json", *QUICK_D_RAND, "--set", "attack.eps=0.7"))
        assert again["stages"]["computed"] > 0, "the cluster still works"
        assert accuracy_by_ray_data(command) > 0.5, "a network learns from what Ray Data read; chance is 0.1"
    assert result["stages"]["computed"] == result["stages"]["total"]
    runs = {run["id"]: run for run in flow_runs(prefect_api["PREFECT_API_URL"])}
    assert len(runs) == before + 2
    assert runs[result["run"]]["state_name"] == "Completed"
    assert not (tmp_path / ".advfeat" / "prefect").exists()
    assert not ray.is_initialized()
