"""Parts of a cluster die in the middle of a run, and nothing is lost.

Every case runs the same small grid on two Ray nodes with an S3 store and a Prefect server, breaks
something, and compares what is in the store at the end with what an undisturbed run left, bit by bit.
``make test-faults`` runs them.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from advfeat.storage import Store
from tests.exposure import files_with
from tests.fault_cluster import Place, artifacts, contents, finish, store_of, wait_until
from tests.servers import (
    Server,
    object_store,
    prefect_client,
    prefect_service,
    ray_nodes,
)

pytestmark = pytest.mark.faults

ASSIGNMENTS = (
    *("data.train_size=640", "data.test_size=300", "seeds=[0]", "recipes=[d_rand,d_det]", "shards=5"),
    *("source.epochs=4", "target.epochs=4", "attack.steps=150"),
)
GRID = tuple(word for assignment in ASSIGNMENTS for word in ("--set", assignment))
STAGES = 19  # images, source model, and for each recipe 5 shards, data set, target model, evaluation; report


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("faults")
    s3, prefect = object_store(folder / "s3"), prefect_service(folder / "prefect")
    nodes = ray_nodes(folder / "ray", 0, [1, 1])
    with s3.server.running(), prefect.server.running(), nodes.running():
        place = Place(s3, prefect, nodes, folder, {})
        command = place.command("undisturbed")
        result = json.loads(command.succeed("run", "--json", *GRID))
        assert result["stages"] == {"total": STAGES, "computed": STAGES, "cached": 0}
        assert max(place.computations(result["run"]).values()) == 1
        place.undisturbed = contents(command)
        yield place


def test_a_worker_killed_in_a_shard(place: Place) -> None:
    command = place.command("worker")
    process = command.start(["run", "--json", *GRID])
    wait_until(lambda: place.workers_at("shard"), process)[0].kill()
    result = finish(process)
    assert contents(command) == place.undisturbed
    begun = place.computations(result["run"])
    assert begun.total() <= STAGES + 1, "at most the one shard in the killed worker is done again"


@pytest.mark.parametrize("stage", ["shard", "target model"])
def test_a_node_killed_in_mid_stage(place: Place, stage: str) -> None:
    command = place.command(f"node-{stage.replace(' ', '-')}")
    process = command.start(["run", "--json", *GRID])
    lost = place.node_of(wait_until(lambda: place.workers_at(stage), process)[0])
    lost.kill()
    killed = datetime.now(UTC)
    try:
        result = finish(process)
    finally:
        lost.start()
    assert datetime.now(UTC) - killed < timedelta(seconds=120)
    assert contents(command) == place.undisturbed
    begun = place.beginnings(result["run"])
    assert len(begun) <= STAGES + 1, "at most the one stage in flight on the lost node is done again"
    last = max(moment for title, moment in begun if stage in title)
    assert last - killed < timedelta(seconds=60), "when what was lost was begun again, at the latest"


def test_a_node_killed_in_a_training_by_two_workers(place: Place) -> None:
    """Both cores are needed: the training waits for the node to come back, then goes on."""
    grid = (*GRID, "--set", "recipes=[d_rand]", "--set", "target.workers=2", "--set", "target.epochs=16")
    undisturbed = place.command("two-workers")
    undisturbed.succeed("run", "--json", *grid)
    command = place.command("two-workers-disturbed")
    process = command.start(["run", "--json", *grid])
    training = wait_until(lambda: place.workers_at("RayTrainWorker")[1:], process)
    time.sleep(3)
    lost = place.node_of(training[0])
    lost.kill()
    lost.start()
    back = time.monotonic()
    wait_until(lambda: place.workers_at("RayTrainWorker")[1:], process)
    assert time.monotonic() - back < 60
    finish(process)
    assert contents(command) == contents(undisturbed)
    with store_of(command) as store:
        assert [path for path in store.fs.find(store.checkpoints) if "/checkpoints/" in path] == []


def test_the_flow_process_killed_then_run_again(place: Place) -> None:
    command = place.command("flow")
    process = command.start(["run", "--json", *GRID])
    wait_until(lambda: place.workers_at("shard"), process)
    wait_until(lambda: artifacts(command) >= 4, process)
    process.kill()
    process.communicate(timeout=30)
    wait_until(lambda: not place.workers_at("shard"))
    assert command.left_processes(30) == []
    kept = artifacts(command)
    result = json.loads(command.succeed("run", "--json", *GRID))
    assert result["stages"]["cached"] >= kept
    assert result["stages"]["computed"] == STAGES - result["stages"]["cached"]
    assert contents(command) == place.undisturbed


@pytest.mark.parametrize(("name", "seconds"), [("s3", 20), ("prefect", 5)])
def test_a_server_killed_and_started_again(place: Place, name: str, seconds: float) -> None:
    server = {"s3": place.s3.server, "prefect": place.prefect.server}[name]
    command = place.command(name)
    process = command.start(["run", "--json", *GRID])
    wait_until(lambda: place.workers_at("shard"), process)
    server.kill()
    time.sleep(seconds)
    server.start()
    finish(process)
    assert contents(command) == place.undisturbed


def test_a_shard_that_always_fails(place: Place) -> None:
    """In a local store, a file stands for good where one shard's folder belongs."""
    store = place.folder / "blocked"
    command = place.command(str(store))
    planned = {
        entry["title"]: entry["digest"] for entry in json.loads(command.succeed("plan", "--json", *GRID))
    }
    blocked = "data set d_rand, seed 0, shard 3 of 5"
    obstacle = store / "artifacts" / planned[blocked]
    obstacle.parent.mkdir(parents=True)
    obstacle.touch()
    failed = command("run", "--json", *GRID)
    assert failed.returncode == 1
    last = failed.stderr.splitlines()[-1]
    assert last.startswith(f"advfeat: 1 of {STAGES} stages failed and 4 that need them were not started")
    assert blocked in last
    assert artifacts(command) == STAGES - 5

    obstacle.unlink()
    result = json.loads(command.succeed("run", "--json", *GRID))
    assert result["stages"] == {"total": STAGES, "computed": 5, "cached": STAGES - 5}
    assert contents(command) == place.undisturbed


def test_a_full_disk(place: Place) -> None:
    store = place.folder / "small-disk"
    store.mkdir()
    size = "size=150k"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(store)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a small file system")
    try:
        command = place.command(str(store))
        failed = command("run", "--json", *GRID)
        assert failed.returncode == 1
        assert "No space left on device" in failed.stderr.splitlines()[-1]
        assert contents(command).items() <= place.undisturbed.items()
        subprocess.run(["mount", "-o", "remount,size=500m", str(store)], check=True)
        result = json.loads(command.succeed("run", "--json", *GRID))
        assert result["stages"]["cached"] > 0
        assert contents(command) == place.undisturbed
    finally:
        subprocess.run(["umount", str(store)], check=False)


def test_a_corrupted_shard_found_on_read(place: Place) -> None:
    store = place.folder / "corrupted"
    command = place.command(str(store))
    command.succeed("run", "--json", *GRID)
    digests = {
        entry["title"]: entry["digest"] for entry in json.loads(command.succeed("plan", "--json", *GRID))
    }
    title = "data set d_det, seed 0, shard 2 of 5"
    (payload,) = (store / "artifacts" / digests[title]).glob("*.parquet")
    content = bytearray(payload.read_bytes())
    content[len(content) // 2] ^= 1
    kept = payload.stat()
    payload.write_bytes(content)
    os.utime(payload, ns=(kept.st_atime_ns, kept.st_mtime_ns))  # neither size nor time betrays it
    shutil.rmtree(store / "artifacts" / digests["data set d_det, seed 0"])

    done = command("run", "--json", *GRID)
    assert done.returncode == 0, done.stderr
    assert f"{title}: damaged: " in done.stderr
    assert json.loads(done.stdout)["stages"]["computed"] == 2, "the shard and its data set"
    assert contents(command) == place.undisturbed


def test_a_node_whose_clock_is_an_hour_ahead(place: Place) -> None:
    """In a shared folder nothing asks the time; S3 refuses the node's requests, and the run says why."""
    startup = place.folder / "startup"
    startup.mkdir()
    (startup / "sitecustomize.py").write_text(
        "import datetime, time_machine\n"
        "later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)\n"
        "time_machine.travel(later, tick=True).start()\n"
    )
    node = place.ray.workers[1]
    skewed = Server(node.command, node.log, node.answers, {**node.environment, "PYTHONPATH": str(startup)})
    node.kill()
    try:
        with skewed.running():
            command = place.command(str(place.folder / "skewed"))
            began = datetime.now(UTC)
            command.succeed("run", "--json", *GRID)
            assert contents(command) == place.undisturbed
            with store_of(command) as store:
                created = [datetime.fromisoformat(manifest.created) for manifest in store.manifests()]
            assert any(moment > began + timedelta(minutes=50) for moment in created), "it did its share"

            refused = place.command("skewed")
            failed = refused("run", "--json", *GRID)
            assert failed.returncode == 1
            assert "check its keys, and its clock" in failed.stderr.splitlines()[-1]
    finally:
        node.start()
    refused.succeed("run", "--json", *GRID)
    assert contents(refused) == place.undisturbed


def test_two_identical_runs_at_once(place: Place) -> None:
    command = place.command("twice")
    processes = [command.start(["run", "--json", *GRID]) for _ in range(2)]
    results = [finish(process) for process in processes]
    begun = sum((place.computations(result["run"]) for result in results), Counter[str]())
    costly = {title: count for title, count in begun.items() if "model" in title or "data set" in title}
    assert set(costly.values()) == {1}, "what takes long is computed by one of them"
    assert len(costly) == 15
    assert results[0]["rows"] == results[1]["rows"]
    assert contents(command) == place.undisturbed


def test_a_run_cancelled_in_prefect_stops_its_work(place: Place) -> None:
    command = place.command("cancelled")
    process = command.start(["run", "--json", *GRID])
    wait_until(lambda: place.workers_at("shard"), process)
    with prefect_client(place.prefect.variables) as client:
        starts = {
            run.id: run.start_time
            for run in client.read_flow_runs()
            if run.start_time is not None and run.state is not None and run.state.is_running()
        }
        run = max(starts, key=starts.__getitem__)  # one that was killed above counts as running for good
        client.set_flow_run_state(run, cancelling(), force=True)
        said = stopped_within_30_s(process, place)
        state = client.read_flow_run(run).state
    assert state is not None
    assert state.is_cancelled()
    assert process.returncode == 1
    assert said == "advfeat: the run was cancelled in Prefect; finished stages are kept"
    assert command.left_processes(10) == []


def test_ctrl_c_stops_the_work_on_the_cluster(place: Place) -> None:
    command = place.command("interrupted")
    process = command.start(["run", "--json", *GRID])
    wait_until(lambda: place.workers_at("shard"), process)
    os.killpg(process.pid, signal.SIGINT)
    assert stopped_within_30_s(process, place) == "advfeat: interrupted; finished stages are kept"
    assert command.left_processes(10) == []


def test_a_stage_that_lasts_too_long_is_given_up(place: Place) -> None:
    command = place.command("slow")
    failed = command("run", "--stage-timeout", "20", *GRID, "--set", "source.epochs=9000")
    assert failed.returncode == 1
    last = failed.stderr.splitlines()[-1]
    assert last.startswith(f"advfeat: 1 of {STAGES} stages failed and {STAGES - 2} that need them")
    assert "source model, seed 0: " in last
    assert "20.0 second(s)" in last, "the time it had"
    wait_until(lambda: not place.workers_at("source model"))


def stopped_within_30_s(process: "subprocess.Popen[str]", place: Place) -> str:
    """Wait for a run's end and that of its work; return the last line that it said."""
    began = time.monotonic()
    _, stderr = process.communicate(timeout=30)
    wait_until(lambda: not place.workers_at("shard"))
    assert time.monotonic() - began < 30
    return stderr.splitlines()[-1]


def cancelling() -> Any:
    from prefect.states import Cancelling

    return Cancelling()


def test_secrets_show_nowhere(place: Place) -> None:
    """After all that: no log of Ray or Prefect, no record, no manifest and no command line holds one."""
    secrets = {
        place.s3.variables["AWS_SECRET_ACCESS_KEY"],
        place.prefect.variables["PREFECT_API_AUTH_STRING"].partition(":")[2],
        Path(place.ray.variables["RAY_AUTH_TOKEN_PATH"]).read_text(),
    }
    sessions = {Path(line).parent.parent for line in ray_session_folders()}
    assert sessions
    found = files_with(secrets, *sessions, place.folder / "prefect", place.folder / "ray")
    assert {file.name for file in found} == {"ray_token"}
    store = Store(str(place.folder / "corrupted"))
    for manifest in store.manifests():
        assert not any(secret in manifest.model_dump_json() for secret in secrets)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            assert not any(secret in line for secret in secrets), process


def ray_session_folders() -> set[str]:
    """Return the log files that running raylets hold open, which lie in their sessions' folders."""
    found = set()
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "raylet":
            with contextlib.suppress(psutil.Error):
                found |= {file.path for file in process.open_files() if "/logs/" in file.path}
    return found
