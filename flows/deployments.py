"""What this project offers on a Prefect server: main job, a form for each recipe, regression check."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from prefect.types.entrypoint import EntrypointType

from advfeat.errors import InputError
from advfeat.flows.experiment import learning_from_errors
from advfeat.flows.prefect_api import check_api
from advfeat.flows.recipes import FLOWS
from advfeat.flows.regression import regression
from advfeat.planning import load_experiment
from advfeat.recipes.shared.own import FILES

_EARLIER_ENTRYPOINTS = ("flows.", "flows/")
"""Flows were modules of a package ``flows`` of their own before they were part of ``advfeat``."""


def main_job(name: str, store: str) -> RunnerDeployment:
    """Describe the deployment of the main job, on the preset digits."""
    experiment = load_experiment("digits").model_dump(mode="json")
    return _deployment(learning_from_errors, name, {"experiment": experiment, "store": store})


def grids(name: str, store: str) -> list[RunnerDeployment]:
    """Describe the deployments of all recipes."""
    return [_deployment(flow, name, {"store": store}) for flow in FLOWS.values()]


def deploy_to(pool: str, store: str, image: str | None) -> list[str]:
    """Create or renew all deployments, named after a work pool that is there, and return their names.

    Raises ``InputError`` if no server is configured or it has no such pool.
    """
    if not (api := get_current_settings().api.url):
        raise InputError(
            "PREFECT_API_URL", api, "names no server", "set it to the server that runs are sent to"
        )
    check_api(api)
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            remedy = f"create it: prefect work-pool create {pool} --type process"
            raise InputError("pool", pool, f"is not on {api}", remedy) from None
    check = _deployment(regression, pool, {"store": store})
    found = [main_job(pool, store), *grids(pool, store), check]
    for deployment in found:
        deployment.job_variables = _where_recipes_are()  # served ones inherit it, and may have none
        deployment.apply(work_pool_name=pool, image=image)
    return [f"{deployment.flow_name}/{deployment.name}" for deployment in found]


def outdated() -> list[str]:
    """Name the deployments on the server that still look for flows where earlier versions had them."""
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=["advfeat"]))
    with get_client(sync_client=True) as client:
        found = [
            deployment
            for deployment in _all_pages(partial(client.read_deployments, deployment_filter=ours))
            if (deployment.entrypoint or "").startswith(_EARLIER_ENTRYPOINTS)
        ]
        flows = {deployment.flow_id: client.read_flow(deployment.flow_id).name for deployment in found}
    return sorted(f"{flows[deployment.flow_id]}/{deployment.name}" for deployment in found)


def _all_pages(read: Callable[..., list[DeploymentResponse]]) -> Iterator[DeploymentResponse]:
    offset = 0
    while page := read(offset=offset):
        yield from page
        offset += len(page)


def _where_recipes_are() -> dict[str, Any]:
    """Return what lets runs find the recipes whose files the environment names here."""
    files = [str(Path(file).resolve()) for file in os.environ.get(FILES, "").split(os.pathsep) if file]
    return {"env": {FILES: os.pathsep.join(files)}} if files else {}


def _deployment(flow: Flow[..., Any], name: str, parameters: dict[str, Any]) -> RunnerDeployment:
    return RunnerDeployment.from_flow(
        flow,
        name=name,
        description=flow.description,
        parameters=parameters,
        tags=["advfeat", flow.name],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
