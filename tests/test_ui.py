"""What a researcher does in Prefect's user interface, in a real browser: fill in the form, submit, look."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from playwright.sync_api import Locator, Page, Response
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import DeploymentStatus, FlowRun, Log
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import LogSort

import advfeat
from advfeat.cluster.services import LOCAL, deployment_name
from advfeat.planning import build_grid_plan, load_grid, points
from advfeat.storage import Store
from advfeat.storage.runs import read_records
from tests.browser import browser_page, needs_browser
from tests.command import unconfigured
from tests.servers import prefect_client

PICTURES = os.environ.get("ADVFEAT_PICTURES")
"""A folder for pictures of the pages, for the documentation; none are kept if unset."""

pytestmark = needs_browser

CREATED, BUSY = 201, 503

_WIDTH_WHEN_DRAWN = """image => new Promise(tell => image.complete
    ? tell(image.naturalWidth) : image.addEventListener("load", () => tell(image.naturalWidth)))"""

QUICK = ("data.train_size=256", "data.test_size=200", "source.epochs=3", "target.epochs=3")
ATTACKED = (*QUICK, "evaluation.attack={eps: 0.5, steps: 1}")
"""Other evaluations of the same data sets and target models."""
STEPS = 20
"""Those of the preset."""


@dataclass
class Interface:
    """A Prefect server whose deployments are served, a browser's page, and the store that runs use."""

    address: str
    client: SyncPrefectClient
    page: Page
    store: Path
    errors: list[str]
    """What the server answered to the page's requests that failed."""

    def open_form(self, recipe: str) -> None:
        """Open the form of a recipe's deployment."""
        self.page.goto(f"{self.address}/v2/deployments/deployment/{self.deployment(recipe).id}/run")
        self.field("Seeds").wait_for()

    def deployment(self, flow: str) -> DeploymentResponse:
        """Return what is served of a flow."""
        return self.client.read_deployment_by_name(f"{flow}/{deployment_name(flow, LOCAL)}")

    def field(self, label: str, within: str | None = None) -> Locator:
        """Return a field of the form by its label, where several are called so that of a group."""
        place = self.page if within is None else self.field(within)
        text = self.page.get_by_text(re.compile(rf"^{re.escape(label)}( \(Optional\))?$"))
        return place.locator("div.group").filter(has=self.page.locator("label").and_(text)).last

    def add(self, label: str, *values: object) -> None:
        """Add values to a list of the form."""
        inputs = self.field(label).locator("input, textarea")
        for value in values:
            there = inputs.count()
            self.field(label).get_by_role("button", name="Add item").click()
            inputs.nth(there).fill(str(value))

    def delete_last(self, label: str) -> None:
        """Delete the last value of a list of the form."""
        entries = self.field(label).get_by_role("button", name="Drag to reorder")
        there = entries.count()
        self.field(label).get_by_role("button", name="Open menu").last.click()
        self.page.get_by_role("menuitem", name="Delete").click()
        self.wait_until(lambda: entries.count() == there - 1)

    def choose_in_menu(self, run: FlowRun, entry: str, confirming: str) -> None:
        """Choose what is done with a run in the menu of its page, and confirm it."""
        self.page.goto(f"{self.address}/v2/runs/flow-run/{run.id}")
        self.page.get_by_role("button", name="Open menu").first.click()
        self.page.get_by_role("menuitem", name=entry).click()
        self.page.get_by_role("alertdialog").get_by_role("button", name=confirming).click()

    def logs(self, run: FlowRun) -> list[Log]:
        """Return the lines of a run's log, its tasks' among them."""
        of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
        return self.client.read_logs(log_filter=of_run, sort=LogSort.TIMESTAMP_ASC)

    def submit(self) -> FlowRun:
        """Submit the form, again while the server calls its SQLite busy; return the run it made."""
        button = self.page.get_by_role("button", name="Submit")
        deadline = time.monotonic() + 240
        while True:
            with self.page.expect_response("**/create_flow_run", timeout=120_000) as answered:
                button.press("Enter")  # after a refusal the page's complaint covers it
            answer = answered.value
            if answer.status != BUSY:
                assert answer.status == CREATED, f"{_told(answer)}: {answer.text()}"
                return self.client.read_flow_run(UUID(answer.json()["id"]))
            assert time.monotonic() < deadline, self.errors
            self.page.wait_for_timeout(1000)

    def ended(self, run: FlowRun) -> bool:
        """Tell whether a run has ended, however it did."""
        state = self.client.read_flow_run(run.id).state
        return state is not None and state.is_final()

    def wait_until_final(self, run: FlowRun) -> FlowRun:
        """Wait until a run ends and return it as it is then, with no page open that draws all the while."""
        self.page.goto("about:blank")
        self.wait_until(lambda: self.ended(run))
        return self.client.read_flow_run(run.id)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 240) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{self.page.url}: {self.errors}"
            self.page.wait_for_timeout(500)

    def picture(self, name: str, height: int = 2400) -> None:
        """Keep a picture of the page for the documentation, if asked to."""
        if PICTURES is not None:
            self.page.wait_for_timeout(3000)  # graphs move into place
            upper: Any = {"x": 0, "y": 0, "width": 1280, "height": height}
            self.page.screenshot(path=Path(PICTURES) / f"prefect-{name}.png", clip=upper)

    def open_artifact(self, run: FlowRun, key: str) -> Any:
        """Open the page of what a run published under a key; return what was published."""
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        (found,) = [entry for entry in self.client.read_artifacts(artifact_filter=of_run) if entry.key == key]
        self.page.goto(f"{self.address}/v2/artifacts/artifact/{found.id}")
        return found.data


@pytest.fixture(scope="module")
def interface(tmp_path_factory: pytest.TempPathFactory, prefect_api: dict[str, str]) -> Iterator[Interface]:
    folder = tmp_path_factory.mktemp("interface")
    store = folder / "store"
    api = prefect_api["PREFECT_API_URL"]
    environment = {**unconfigured(), **prefect_api, "ADVFEAT_STORE": store.name}
    command = [sys.executable, "-X", "faulthandler", "-m", "advfeat.flows.serve"]
    serving = subprocess.Popen(command, env=environment, cwd=folder)
    try:
        with browser_page(height=2400) as page, prefect_client(prefect_api) as client:
            errors: list[str] = []
            page.on("response", lambda answer: errors.append(_told(answer)) if answer.status >= 500 else None)
            page.on("requestfailed", lambda request: errors.append(f"{request.url}: {request.failure}"))
            _log_in(page, api.removesuffix("/api"), prefect_api["PREFECT_API_AUTH_STRING"])
            _wait_until_served(client)
            yield Interface(api.removesuffix("/api"), client, page, store, errors)
    finally:
        # A run is final in Prefect some seconds before its process has ended its Ray.
        runs = psutil.Process(serving.pid).children(recursive=True)
        _, left = psutil.wait_procs(runs, timeout=60)
        serving.terminate()
        try:
            serving.wait(60)
        except subprocess.TimeoutExpired:
            serving.send_signal(signal.SIGABRT)  # it tells where it hangs
            raise
        assert left == []


def _log_in(page: Page, address: str, credentials: str) -> None:
    """Type the line that ``advfeat run`` points to into the one field that the pages begin with."""
    page.goto(address)
    page.locator("input[type=password]").fill(credentials)
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Deployments").first.wait_for()


def _told(answer: Response) -> str:
    return f"{answer.request.method} {answer.url}: {answer.status} {answer.status_text}"


def _wait_until_served(client: SyncPrefectClient) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        with suppress(Exception):
            served = client.read_deployment_by_name(f"d_det/{deployment_name('d_det', LOCAL)}")
            if served.status == DeploymentStatus.READY:
                return
        time.sleep(0.5)
    raise TimeoutError("nobody serves the deployments")


def test_deployments_are_told_apart_and_described(interface: Interface) -> None:
    interface.page.goto(f"{interface.address}/v2/deployments")
    for name in ("bugs_only-local", "d_det-local", "d_rand-local"):
        interface.page.get_by_role("link", name=name, exact=True).wait_for()
    interface.picture("deployments", height=900)
    d_rand = interface.deployment("d_rand")
    assert d_rand.tags[0] == "teaches"
    assert interface.deployment("shuffled").tags[0] == "does not teach"
    published = (
        "Published: 63.3 % on clean test images (CIFAR-10, ResNet-50, L2 eps 0.5, 100 steps; Ilyas et al."
    )
    for deployment in (d_rand, interface.deployment("learning-from-errors")):
        assert published in str(deployment.description)
        sentences = str(deployment.description).replace("et al.", "et al").count(". ") + 1
        assert sentences == 3


def test_a_grid_from_form_to_numbers(interface: Interface) -> None:
    interface.open_form("d_det")
    interface.field("Radius (eps)").get_by_text(
        "left empty: 1.5 (digits, fashion-mnist), 2.0 (mnist)"
    ).wait_for()
    interface.add("Radius (eps)", 0.5, 1.5)
    interface.add("Settings", *QUICK)
    interface.delete_last("Seeds")
    interface.picture("form", height=2400)
    interface.page.locator("input[name=name]").fill("two radii")
    submitted = time.monotonic()
    run = interface.submit()
    interface.wait_until(lambda: any(interface.store.glob("artifacts/*")), seconds=60)
    print(f"the first stage was there {time.monotonic() - submitted:.1f} s after the form was submitted")
    run = interface.wait_until_final(run)
    assert run.state is not None
    assert run.state.is_completed(), run.state.message
    assert run.name == "two radii", "what was typed stays"

    table = json.loads(interface.open_artifact(run, "d-det-results"))
    store = Store(str(interface.store))
    (report,) = [m for m in store.manifests() if m.stage == "grid_report"]
    rows = json.loads(store.read(report.digest, "rows.json"))
    assert [(row["axes"]["eps"], row["axes"]["seed"]) for row in rows] == [
        (eps, seed) for eps in (0.5, 1.5) for seed in (0, 1)
    ]
    assert [line["test accuracy"] for line in table] == [
        f"{100 * row['test_accuracy']:.1f} %" for row in rows
    ]
    assert all(line["verdict"] for line in table)

    for line in table:
        interface.page.get_by_text(line["test accuracy"]).first.wait_for()
    interface.picture("results", height=640)
    text = interface.open_artifact(run, "d-det-report")
    assert len(text) < 1_000_000
    assert " as claimed" in text.splitlines()[2]
    (file,) = [file.path for file in report.files if file.name == "report.html"]
    assert f"{store.artifact_uri(report.digest)}/{file}" in text
    pictures = interface.page.locator("img[alt^='Accuracy against'], img[alt^='Original and training']")
    pictures.nth(1).wait_for()
    for picture in pictures.all():
        assert picture.evaluate(_WIDTH_WHEN_DRAWN) > 100, "the browser draws it"
    interface.picture("report", height=1700)

    sets = json.loads(interface.open_artifact(run, "d-det-data-sets"))
    assert [(each["recipe"], each["norm"], each["eps"], each["seed"]) for each in sets] == [
        ("d_det", "l2", eps, seed) for eps in (0.5, 1.5) for seed in (0, 1)
    ]
    assert {each["images"] for each in sets} == {256}
    assert all(each["attack success"].endswith(" %") for each in sets)
    assert len(eval(sets[0]["load"], {"advfeat": advfeat})) == 256  # the command is the user's to type
    interface.picture("data-sets", height=640)
    interface.page.goto(f"{interface.address}/v2/runs/flow-run/{run.id}")
    interface.page.get_by_text("Completed").first.wait_for()
    interface.picture("run", height=1000)


def test_a_wrong_value_is_told_before_any_run(interface: Interface) -> None:
    before = len(interface.client.read_flow_runs())
    interface.open_form("d_det")
    interface.add("Radius (eps)", -1)
    interface.add("Target Model", "mlp", "torchvision:resnet34", "resnet81")
    interface.page.get_by_role("button", name="Submit").click()
    interface.page.get_by_text("-1 is less than or equal to the minimum of 0").first.wait_for()
    wrong = interface.field("Target Model").get_by_text("does not match")
    wrong.first.wait_for()
    assert wrong.count() == 1
    interface.picture("wrong")
    assert len(interface.client.read_flow_runs()) == before


FIRST = (
    *("Name", "Images", "Training images", "Recipes", "Seeds", "Norm", "Radius (eps)", "Steps"),
    *("Source model", "Network", "Target model", "Imported data set", "Rare settings"),
)
"""Labels of the main job's form, in the order in which it is filled in."""


def test_the_main_form_begins_with_what_is_filled_in_first(interface: Interface) -> None:
    interface.open_form("learning-from-errors")
    labels = [
        label.removesuffix(" (Optional)") for label in interface.page.locator("label").all_inner_texts()
    ]
    places = [labels.index(label) for label in FIRST]
    assert places == sorted(places)
    assert labels.index("Rare settings") <= 40
    assert not {"DataSpec", "SourceSpec", "TrainSpec", "TargetedAttack", "Momentum"} & set(labels)
    interface.picture("main-form", height=2400)

    interface.field("Rare settings").get_by_role("tab", name="Shown").click()
    interface.field("Momentum", within="Rare settings").wait_for()
    interface.field("Settings of one recipe alone").locator(".cm-content").fill(
        '{"bugs_only": {"guards": 1}}'
    )
    run = interface.wait_until_final(interface.submit())
    assert run.state is not None
    assert run.state.is_failed()
    problem = "only.bugs_only: {'guards': 1} is for a recipe that is not run"
    assert run.state.message == f"{problem}; add bugs_only to recipes, or leave it out"


def test_what_the_run_alone_can_see_is_told_at_once_in_one_line(interface: Interface) -> None:
    deployment = interface.deployment("learning-from-errors")
    experiment = deployment.parameters["experiment"]
    beyond = {**experiment, "attack": {"norm": "linf", "eps": 8, "steps": 5}}
    run = interface.client.create_flow_run_from_deployment(deployment.id, parameters={"experiment": beyond})
    run = interface.wait_until_final(run)
    line = "attack.eps: 8 is beyond what linf can be, as pixels are in [0, 1]; did you mean 8/255?"
    assert run.state is not None
    assert run.state.is_failed()
    assert run.state.message == line
    (began,) = [s.timestamp for s in interface.client.read_flow_run_states(run.id) if s.is_running()]
    seconds = (run.state.timestamp - began).total_seconds()
    print(f"told after {seconds:.2f} s")
    assert seconds < 2
    interface.wait_until(lambda: any("Finished" in log.message for log in interface.logs(run)))
    beginning, *others = [log.message for log in interface.logs(run)]
    assert beginning.startswith("Beginning flow run")
    assert others[0] == line
    assert not any("Traceback" in message for message in others)


def test_a_cancelled_run_ends_cancelled_and_its_tasks_with_it(interface: Interface) -> None:
    deployment = interface.deployment("clean")
    grid = {"seeds": [0], "settings": ["target.epochs=5000"]}
    run = interface.client.create_flow_run_from_deployment(deployment.id, parameters={"grid": grid})
    assert run.name != "clean · digits · 1 seed"
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))

    def computing() -> int:
        tasks = interface.client.read_task_runs(flow_run_filter=of_run)
        return sum(
            task.name == "target model clean, seed 0" and task.state_name == "Running" for task in tasks
        )

    interface.wait_until(lambda: computing() == 1)
    interface.choose_in_menu(run, "Cancel", "Cancel Flow Run")
    asked = time.monotonic()
    interface.wait_until(lambda: computing() == 0, seconds=60)
    print(f"its task ended {time.monotonic() - asked:.1f} s after the run was cancelled")
    run = interface.wait_until_final(run)
    assert run.name == "clean · digits · 1 seed", "a name that was made up gives way"
    states = [state.name for state in interface.client.read_flow_run_states(run.id)]
    assert states[-2:] == ["Cancelling", "Cancelled"]
    assert "Crashed" not in states
    logs = interface.logs(run)
    assert not any("Traceback" in log.message or log.level >= logging.ERROR for log in logs)
    store = Store(str(interface.store))
    (record,) = [record for record in read_records(store) if record.run == str(run.id)]
    assert record.state == "cancelled"


def test_a_retry_computes_what_failed_alone(interface: Interface) -> None:
    """A link to nowhere stands where one evaluation's folder belongs; without it the run is retried."""
    grid = load_grid("d_det", ["eps=[0.5,1.5]", "seeds=[0,1]", f"steps={STEPS}", *ATTACKED])
    failing = build_grid_plan(points("d_det", grid)).made_of[0]["evaluation"]
    obstacle = interface.store / "artifacts" / failing
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.symlink_to("nowhere")
    interface.open_form("d_det")
    interface.add("Radius (eps)", 0.5, 1.5)
    interface.add("Steps", STEPS)
    interface.add("Settings", *ATTACKED)
    interface.delete_last("Seeds")
    run = interface.wait_until_final(interface.submit())
    assert run.parameters["grid"]["seeds"] == [0, 1]
    assert run.state is not None
    assert run.state.is_failed()
    assert "1 of 4 experiments failed; the report holds the rest" in str(run.state.message)
    assert len(json.loads(interface.open_artifact(run, "d-det-results"))) == 3
    store = Store(str(interface.store))
    reports = [manifest for manifest in store.manifests() if manifest.stage == "grid_report"]
    pages = [store.read(manifest.digest, "report.html") for manifest in reports]
    assert sum(b"1 further experiments failed" in page for page in pages) == 1

    obstacle.unlink()
    before = set(interface.store.glob("artifacts/*/manifest.json"))
    interface.choose_in_menu(run, "Retry", "Retry")
    interface.wait_until(lambda: not interface.ended(run))
    run = interface.wait_until_final(run)
    assert run.state is not None
    assert run.state.is_completed(), run.state.message
    new = set(interface.store.glob("artifacts/*/manifest.json")) - before
    stages = sorted(json.loads(path.read_text())["stage"] for path in new)
    assert stages == ["evaluation", "grid_report"]
