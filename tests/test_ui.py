"""What a researcher does in Prefect's user interface, in a real browser: fill in the form, submit, look."""

import json
import os
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
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import FlowRun

from advfeat.planning import build_grid_plan, load_grid, points
from advfeat.storage import Store
from tests.browser import browser_page, needs_browser
from tests.command import unconfigured
from tests.servers import prefect_client

PICTURES = os.environ.get("ADVFEAT_PICTURES")
"""A folder for pictures of the pages, for the documentation; none are kept if unset."""

pytestmark = needs_browser

CREATED, BUSY = 201, 503

QUICK = ("data.train_size=256", "data.test_size=200", "source.epochs=3", "target.epochs=3")


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
        deployment = self.client.read_deployment_by_name(f"{recipe}/local")
        self.page.goto(f"{self.address}/deployments/deployment/{deployment.id}/run")
        self.field("Seeds").wait_for()

    def field(self, label: str) -> Locator:
        """Return a field of the form by its label."""
        text = self.page.locator(".schema-form-property__label").get_by_text(
            f"{label} (Optional)", exact=True
        )
        return self.page.locator(".schema-form-property").filter(has=text).last

    def add(self, label: str, *values: object) -> None:
        """Add values to a list of the form."""
        inputs = self.field(label).locator("input, textarea")
        for value in values:
            there = inputs.count()
            self.field(label).get_by_role("button", name="Add item").click()
            inputs.nth(there).fill(str(value))

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
        self.page.goto(f"{self.address}/artifacts/artifact/{found.id}")
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
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(Exception):
            if str(client.read_deployment_by_name("d_det/local").status).endswith("READY"):
                return
        time.sleep(0.5)
    raise TimeoutError("nobody serves the deployments")


def test_a_grid_from_form_to_numbers(interface: Interface) -> None:
    interface.open_form("d_det")
    interface.add("Eps", 0.5, 1.5)
    interface.add("Settings", *QUICK)
    interface.field("Seeds").locator(".p-draggable-list__item").last.locator("button").first.click()
    interface.picture("form", height=2295)
    submitted = time.monotonic()
    run = interface.submit()
    interface.wait_until(lambda: any(interface.store.glob("artifacts/*")), seconds=60)
    print(f"the first stage was there {time.monotonic() - submitted:.1f} s after the form was submitted")
    run = interface.wait_until_final(run)
    assert run.state is not None
    assert run.state.is_completed(), run.state.message
    assert run.name == "d_det · digits · eps 0.5, 1.5 · 2 seeds"

    table = json.loads(interface.open_artifact(run, "d-det-results"))
    (report,) = [m for m in Store(str(interface.store)).manifests() if m.stage == "grid_report"]
    rows = json.loads(Store(str(interface.store)).read(report.digest, "rows.json"))
    assert [(row["axes"]["eps"], row["axes"]["seed"]) for row in rows] == [
        (eps, seed) for eps in (0.5, 1.5) for seed in (0, 1)
    ]
    assert [line["test accuracy"] for line in table] == [
        f"{100 * row['test_accuracy']:.1f} %" for row in rows
    ]

    for line in table:
        interface.page.get_by_text(line["test accuracy"]).first.wait_for()
    interface.picture("results", height=480)
    interface.open_artifact(run, "d-det-report")
    chart = interface.page.locator("img").first
    chart.wait_for()
    assert chart.evaluate("image => image.naturalWidth") > 100, "the browser draws the chart"
    interface.picture("report", height=960)
    interface.page.goto(f"{interface.address}/runs/flow-run/{run.id}")
    interface.page.get_by_text("Completed").first.wait_for()
    interface.picture("run", height=1000)


def test_a_wrong_value_is_told_before_any_run(interface: Interface) -> None:
    before = len(interface.client.read_flow_runs())
    interface.open_form("d_det")
    interface.add("Eps", -1)
    interface.add("Target Model", "mlp", "torchvision:resnet34", "resnet81")
    interface.page.get_by_role("button", name="Submit").click()
    interface.page.get_by_text("-1 is less than or equal to the minimum of 0").wait_for()
    wrong = interface.field("Target Model").get_by_text("does not match")
    wrong.first.wait_for()
    assert wrong.count() == 1
    interface.picture("wrong")
    assert len(interface.client.read_flow_runs()) == before


def test_settings_of_one_recipe_are_a_field_of_json_beside_the_others(interface: Interface) -> None:
    interface.open_form("learning-from-errors")
    assert interface.field("Guards").locator("input").count() == 1, "the rest of the form is one of fields"
    interface.field("Only").locator("textarea").fill('{"bugs_only": {"guards": 1}}')
    run = interface.wait_until_final(interface.submit())
    assert run.state is not None
    assert run.state.is_failed()
    assert "is for a recipe that is not run" in str(run.state.message)


def test_a_retry_computes_what_failed_alone(interface: Interface) -> None:
    """A link to nowhere stands where one evaluation's folder belongs; without it the run is retried."""
    grid = load_grid("d_det", ["eps=[0.5,1.5]", "seeds=[0,1]", "steps=3", *QUICK])
    failing = build_grid_plan(points("d_det", grid)).made_of[0]["evaluation"]
    obstacle = interface.store / "artifacts" / failing
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.symlink_to("nowhere")
    interface.open_form("d_det")
    interface.add("Eps", 0.5, 1.5)
    interface.add("Steps", 3)
    interface.add("Settings", *QUICK)
    seeds = interface.field("Seeds").locator(".p-draggable-list__item")
    seeds.last.locator("button").first.click()
    interface.wait_until(lambda: seeds.count() == 2)
    interface.page.wait_for_timeout(1000)  # the form takes a changed list over after it has drawn it
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
    interface.page.goto(f"{interface.address}/runs/flow-run/{run.id}")
    interface.page.get_by_role("button", name="Retry").click()
    interface.page.get_by_role("button", name="Retry").last.click()  # and confirm
    interface.wait_until(lambda: not interface.ended(run))
    run = interface.wait_until_final(run)
    assert run.state is not None
    assert run.state.is_completed(), run.state.message
    new = set(interface.store.glob("artifacts/*/manifest.json")) - before
    stages = sorted(json.loads(path.read_text())["stage"] for path in new)
    assert stages == ["evaluation", "grid_report"]
