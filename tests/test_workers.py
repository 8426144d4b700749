"""Several processes train one network: as one process would, and on Ray."""

import json
import multiprocessing
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from advfeat.errors import StageFailedError
from advfeat.planning import build_plan, load_experiment
from advfeat.storage import Store
from advfeat.training import fit
from tests.command import QUICK_ASSIGNMENTS, Command
from tests.inline import compute_all
from tests.training_share import ALONE, TOGETHER, File, digits, train_a_share

pytestmark = pytest.mark.all_cores


@pytest.mark.slow
def test_two_processes_train_as_one_would(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=train_a_share, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    alone = fit(digits(), ALONE, classes=10, seed=0).state_dict()
    together: list[dict[str, Any]] = [torch.load(tmp_path / f"weights{rank}") for rank in range(2)]
    start = fit(digits(), ALONE.model_copy(update={"learning_rate": 1e-9}), classes=10, seed=0).state_dict()
    for name, weights in alone.items():
        assert torch.equal(together[0][name], together[1][name])
        assert torch.allclose(together[0][name], weights, atol=1e-5)
    assert (alone["network.1.weight"] - start["network.1.weight"]).abs().max() > 1e-3, "and they did learn"

    trained_again: list[int] = []
    from_the_end = fit(
        digits(),
        TOGETHER,
        classes=10,
        seed=0,
        checkpoint=File(tmp_path / "checkpoint"),
        progress=lambda done, _: trained_again.append(done),
    ).state_dict()
    assert trained_again == []
    assert all(torch.equal(from_the_end[name], weights) for name, weights in together[0].items())


def test_a_process_alone_does_not_stand_for_many() -> None:
    with pytest.raises(StageFailedError, match=r"training\.workers: 2 processes have to train together"):
        fit(digits(), TOGETHER, classes=10, seed=0)


def listening_addresses(process: "subprocess.Popen[str]") -> set[str]:
    """Return the addresses on which workers that train together listen, until a process ends."""
    found: set[str] = set()
    while process.poll() is None:
        for below in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if any("RayTrainWorker" in word for word in below.cmdline()):
                    connections = below.net_connections("tcp")
                    found |= {
                        one.laddr.ip.removeprefix("::ffff:")
                        for one in connections
                        if one.status == psutil.CONN_LISTEN
                    }
        time.sleep(0.5)
    return found


def test_a_run_trains_on_two_ray_workers_as_well_as_on_one(
    served_command: Command, local_store: Store
) -> None:
    settings = [*QUICK_ASSIGNMENTS, "recipes=[clean]"]
    artifacts = compute_all(build_plan(load_experiment("digits", settings)), local_store)
    alone = artifacts["evaluation clean, seed 0"].metrics["test_accuracy"]

    settings.append("target.workers=2")
    words = [word for assignment in settings for word in ("--set", assignment)]
    process = served_command.start(["run", "--json", *words])
    assert listening_addresses(process) == {"127.0.0.1"}
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    result = json.loads(stdout)
    together = result["rows"][0]["test_accuracy"]
    assert min(alone, together) > 0.7
    assert abs(alone - together) < 0.1
    store = Store(str(served_command.folder / ".advfeat" / "store"))
    assert list(Path(store.checkpoints).rglob("*.*")) == []
    assert served_command.left_processes(10) == []

    (model,) = (
        stage for stage in build_plan(load_experiment("digits", settings)).stages if stage.workers == 2
    )
    (file,) = store.manifest(model.digest).files
    (Path(store.artifact_uri(model.digest)) / file.path).write_bytes(bytes(file.bytes))
    assert "repaired  target model clean, seed 0" in served_command.succeed("verify", "--repair")
    assert store.manifest(model.digest).files == (file,), "the same weights, to the last bit"
    assert served_command.left_processes(10) == []
