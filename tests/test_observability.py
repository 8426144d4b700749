"""What watches over a cluster: notifications, metrics of real servers, a dashboard, logs of workers."""

import json
import re
import shutil
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from advfeat.flows.regression import regression
from deployments.notify import NAME, notify
from tests.command import Command
from tests.servers import free_ports, prefect_client, prefect_service, prefect_settings, ray_nodes
from tests.test_stores_of_before import SETTINGS, WRITTEN
from tests.topology import SERVICES

DASHBOARD = Path(__file__).parent.parent / "deployments" / "grafana-dashboard.json"


@pytest.fixture
def told() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address of a chat, and what was posted there."""
    posted: list[dict[str, Any]] = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook", posted
        server.shutdown()


def test_a_regression_that_fails_is_told(
    prefect_api: dict[str, str], told: tuple[str, list[dict[str, Any]]]
) -> None:
    url, posted = told
    with prefect_settings(prefect_api), prefect_client(prefect_api) as client:
        notify("http://127.0.0.1:9/elsewhere")
        notify(url)
        (automation,) = client.read_automations_by_name(NAME)
        problem = 'clean: 0.412 is not in 0.970 to 1.000; "digits"'
        states: list[State[Any]] = [Completed(), Failed(message=problem)]
        runs = [
            client.create_flow_run(regression, parameters={"store": "x"}, state=state) for state in states
        ]
        deadline = time.monotonic() + 60
        while not posted and time.monotonic() < deadline:
            time.sleep(0.2)
        client.delete_automation(automation.id)
    (message,) = posted
    assert message == {"text": f"regression Failed: {problem} (run {runs[1].id})"}


def metrics_of(url: str, login: str | None = None) -> str:
    headers = {"Authorization": f"Basic {b64encode(login.encode()).decode()}"} if login else {}
    answer = httpx.get(url, headers=headers, timeout=30, trust_env=False)
    answer.raise_for_status()
    return answer.text


def total(text: str, name: str, **labels: str) -> float:
    """Add up a metric over all its series with these labels."""
    lines = [line for line in text.splitlines() if re.match(rf"{name}[{{ ]", line)]
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(word in line for word in wanted))


def named(expression: str) -> set[str]:
    """Return the metrics that an expression of Prometheus names."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|by \([^)]*\)", "", expression)
    return set(re.findall(r"\b(?:ray|prefect|process)_\w+", bare))


def handed_out(text: str) -> set[str]:
    """Return the names of the metrics that a server hands out."""
    return set(re.findall(r"^(?:# TYPE )?(\w+)", text, re.MULTILINE))


@pytest.mark.faults  # it takes a minute
@pytest.mark.timeout(900)
def test_servers_hand_out_what_the_dashboard_shows_and_logs_lead_to_the_worker(tmp_path: Path) -> None:
    service = prefect_service(tmp_path / "prefect")
    nodes, (port,) = ray_nodes(tmp_path / "ray", 2, []), free_ports(1)
    soon = {"RAY_metrics_report_interval_ms": "1000"}
    nodes.head.command.append(f"--metrics-export-port={port}")
    nodes.head.environment = {**nodes.head.environment, **soon}
    service.server.environment = {**service.server.environment, "PREFECT_SERVER_METRICS_ENABLED": "true"}
    shutil.copytree(WRITTEN, tmp_path / "store")
    store = {"ADVFEAT_STORE": str(tmp_path / "store")}
    advfeat = Command(tmp_path, {**service.variables, **nodes.variables, **store, **soon})
    before = [word for setting in SETTINGS for word in ("--set", setting)]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert all(map(named, expressions))
    shown = {name for name in set[str]().union(*map(named, expressions)) if name.startswith("ray_")}
    with service.server.running(), nodes.running(), prefect_client(service.variables) as client:
        result = json.loads(advfeat.succeed("run", "--json", *before, "--set", "target.epochs=2"))
        slow = ("--set", "recipes=[clean]", "--set", "target.epochs=10000", "--stage-timeout", "1")
        assert advfeat("run", *before, *slow).returncode == 1
        deadline = time.monotonic() + 60  # a node tells of itself now and then
        of_ray = ""
        while not shown <= handed_out(of_ray) and time.monotonic() < deadline:
            time.sleep(3)
            of_ray = metrics_of(f"http://127.0.0.1:{port}/metrics")
        address = f"{service.variables['PREFECT_API_URL']}/metrics"
        of_prefect = metrics_of(address, service.variables["PREFECT_API_AUTH_STRING"])
        assert httpx.get(address, trust_env=False).status_code == 401
        run = client.read_flow_run(result["run"])
        logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])), limit=200)

    counts = result["stages"]
    assert total(of_ray, "ray_advfeat_stages_total", how="computed", kind="target_model") == 3
    assert total(of_ray, "ray_advfeat_stages_total", how="computed") == counts["computed"]
    assert total(of_ray, "ray_advfeat_stages_total", how="cached") >= counts["cached"] > 0
    assert total(of_ray, "ray_advfeat_stage_failures_total", kind="target_model") == 1
    assert total(of_ray, "ray_advfeat_stage_seconds_count", kind="target_model") == 4
    assert total(of_ray, "ray_advfeat_image_passes_total", kind="target_model") >= 500
    for state in ("completed", "failed"):
        assert total(of_ray, "ray_advfeat_runs_total", flow="learning-from-errors", state=state) == 1
    for expression in expressions:
        assert named(expression) <= handed_out(of_ray + of_prefect), expression

    messages = [log.message for log in logs]
    assert any(re.fullmatch(rf"run {run.id} is job \w+ of Ray", message) for message in messages)
    (training,) = [message for message in messages if message.startswith("target model clean, seed 0: comp")]
    where = re.search(rf"process (\d+), Ray node \w{{56}}, log (\S+) \(run {run.id}\)", training)
    assert where is not None, training
    assert where[2].endswith(f"-{where[1]}.out")
    assert f"run {run.id}: target model clean, seed 0" in Path(where[2]).read_text()


def test_prometheus_asks_services_of_the_compose_file_where_they_hand_out_metrics() -> None:
    content = yaml.safe_load((DASHBOARD.parent / "prometheus.yml").read_text())
    ray, of_prefect = content["scrape_configs"]
    (found,) = ray["dns_sd_configs"]
    for name in found["names"]:
        port = SERVICES[name]["environment"].get("ADVFEAT_METRICS_PORT")
        told = f"--metrics-export-port={found['port']}" in SERVICES[name]["command"]
        assert told or (SERVICES[name]["command"][0], port) == ("join-ray", str(found["port"])), name
    (target,) = of_prefect["static_configs"][0]["targets"]
    service, port = target.split(":")
    assert port in SERVICES[service]["command"]
    assert SERVICES[service]["environment"]["PREFECT_SERVER_METRICS_ENABLED"] == "true"
