"""``advfeat deploy``: forms and schedules on a user's Prefect server, run by a worker of a pool."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId, DeploymentFilterTags
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule
from prefect.workers.process import ProcessWorker

from advfeat.planning.forms import GRIDS
from advfeat.storage import Store
from advfeat.storage.runs import read_records
from tests.command import Command, unconfigured
from tests.own_recipes import MIRRORED
from tests.servers import prefect_client

ROOT = Path(__file__).parents[1]
QUICK = ("data.train_size=256", "data.test_size=200", "target.epochs=2")


def prefect(folder: Path, api: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    done = subprocess.run(
        command, env={**unconfigured(), **api}, cwd=folder, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr


def create_process_pool(api: dict[str, str], name: str) -> None:
    """Do what ``prefect work-pool create NAME --type process --overwrite`` does."""
    template = ProcessWorker.get_default_base_job_template()
    pool = WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template)
    with prefect_client(api) as client:
        client.create_work_pool(pool, overwrite=True)


def test_what_cannot_be_deployed_is_refused_in_a_line(command: Command, served_command: Command) -> None:
    for advfeat, problem in ((command, "names no server"), (served_command, "'nowhere' is not on http")):
        refused = advfeat("deploy", "nowhere")
        assert refused.returncode == 2
        (line,) = refused.stderr.splitlines()
        assert problem in line


def test_a_worker_runs_what_was_deployed(
    served_command: Command, prefect_api: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "mirrored.py").write_text(MIRRORED)
    recipes = {"ADVFEAT_RECIPES": str(tmp_path / "mirrored.py")}
    deploying = replace(served_command, extra={**served_command.extra, **recipes})
    create_process_pool(prefect_api, "here")
    names = deploying.succeed("deploy", "here", "--store", str(tmp_path / "store")).split()
    assert set(names) == {
        f"{flow}/{flow}-here" for flow in ("learning-from-errors", "regression", "mirrored", *GRIDS)
    }
    with prefect_client(prefect_api) as client:
        deployment = client.read_deployment_by_name("mirrored/mirrored-here")
        form = (deployment.parameter_openapi_schema or {})["definitions"]["MirroredGrid"]["properties"]
        assert form["share"]["items"]["maximum"] == 1
        clean = client.read_deployment_by_name("clean/clean-here")
        client.create_deployment(clean.flow_id, "earlier", entrypoint="flows.recipes.clean", tags=["advfeat"])
        client.create_deployment(clean.flow_id, "here", entrypoint=clean.entrypoint, tags=["advfeat"])
        told = deploying("deploy", "here", "--store", str(tmp_path / "store"))
        lost, doubled = told.stderr.splitlines()
        assert lost.startswith("advfeat: clean/earlier: made by an earlier version")
        assert doubled.startswith("advfeat: clean/here: made by an earlier version; their runs and schedules")
        assert "mirrored/mirrored-here" in told.stdout.splitlines()
        grid = {"share": [0.5], "seeds": [0], "settings": QUICK}
        run = client.create_flow_run_from_deployment(
            deployment.id, parameters={"grid": grid}, tags=["user:ann"]
        )
        tracking = {"ADVFEAT_TRACK": f"tensorboard:{tmp_path / 'curves'}"}
        prefect(tmp_path, prefect_api | tracking, "worker", "start", "--pool", "here", "--run-once")
        state = client.read_flow_run(run.id).state
    assert state is not None
    assert state.is_completed(), state.message
    (record,) = read_records(Store(str(tmp_path / "store")))
    assert (record.run, record.flow, record.state) == (str(run.id), "mirrored", "completed")
    assert record.user == "ann"
    assert record.title == "mirrored · digits · share 0.5 · 1 seed"
    assert record.stages is not None
    assert record.stages.computed == record.stages.total == 5
    assert list((tmp_path / "curves").rglob("events.out.tfevents.*"))


def test_a_schedule_makes_runs(prefect_api: dict[str, str]) -> None:
    """With SQLAlchemy 2.1 the scheduler of Prefect 3.8 ends with an error. More is in test_schedules.py."""
    yearly = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 0 1 1 *"), active=True)
    with prefect_client(prefect_api) as client:
        flow = client.create_flow_from_name("clean")
        deployment = client.create_deployment(flow, "yearly", schedules=[yearly])
        of = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        deadline = time.monotonic() + 120
        while not (runs := client.read_flow_runs(deployment_filter=of)) and time.monotonic() < deadline:
            time.sleep(0.5)
        client.delete_deployment(deployment)
    assert {run.auto_scheduled for run in runs} == {True}


def test_a_file_is_deployed_to_a_server_that_answers(tmp_path: Path) -> None:
    """Without an address, Prefect would deploy to a server that it starts and ends."""
    deploy = [sys.executable, str(ROOT / "deployments" / "deploy.py"), "clean-process"]
    for variables in ({}, {"PREFECT_API_URL": "http://127.0.0.1:9/api"}):
        done = subprocess.run(
            deploy, env=unconfigured() | variables, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("deploy.py: PREFECT_API_URL")


def test_what_was_switched_since_stays_when_it_is_deployed_again(
    prefect_api: dict[str, str], tmp_path: Path
) -> None:
    """``prefect deploy`` would switch the nightly run off, drop the user's schedule, and resume."""
    create_process_pool(prefect_api, "process")
    deploy = [sys.executable, str(ROOT / "deployments" / "deploy.py"), "regression-process", "clean-process"]
    served = [str(Path(sys.executable).parent / "advfeat"), "deploy", "process", "--store", str(tmp_path)]
    variables = {**unconfigured(), **prefect_api, "ADVFEAT_STORE": str(tmp_path / "store")}
    subprocess.run(deploy, env=variables, cwd=tmp_path, check=True, capture_output=True, timeout=240)
    with prefect_client(prefect_api) as client:

        def switches(name: str) -> tuple[bool, dict[str | None, bool]]:
            found = client.read_deployment_by_name(name)
            return found.paused, {each.slug: each.active for each in found.schedules}

        regression = client.read_deployment_by_name("regression/regression-process")
        clean = client.read_deployment_by_name("clean/clean-process")
        assert switches("regression/regression-process") == (False, {"nightly": False})
        client.update_deployment_schedule(regression.id, regression.schedules[0].id, active=True)
        yearly: list[tuple[SCHEDULE_TYPES, bool]] = [(CronSchedule(cron="0 0 1 1 *"), True)]
        client.create_deployment_schedules(regression.id, yearly)
        client.pause_deployment(clean.id)
        for again in (deploy, served):
            subprocess.run(again, env=variables, cwd=tmp_path, check=True, capture_output=True, timeout=240)
            assert switches("regression/regression-process") == (False, {None: True, "nightly": True})
            assert switches("clean/clean-process") == (True, {})
        ours = DeploymentFilter(tags=DeploymentFilterTags(all_=["advfeat"]))
        for deployment in client.read_deployments(deployment_filter=ours):
            if deployment.work_pool_name == "process":  # other tests make them anew
                client.delete_deployment(deployment.id)


def test_modules_of_an_earlier_version_say_what_they_are_now() -> None:
    repository = Path(__file__).parent.parent
    for name in ("flows.recipes", "tasks.model"):
        done = subprocess.run(
            [sys.executable, "-c", f"import {name}"], cwd=repository, capture_output=True, text=True
        )
        package = name.partition(".")[0]
        assert f"{package} is now a part of advfeat: import advfeat.{package}" in done.stderr.splitlines()[-1]
