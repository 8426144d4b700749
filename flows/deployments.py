"""What this project offers on a Prefect server: main job, a form for each recipe, regression check."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from prefect.types.entrypoint import EntrypointType

from advfeat.cluster.services import LOCAL, deployment_name
from advfeat.errors import InputError
from advfeat.flows.experiment import learning_from_errors
from advfeat.flows.prefect_api import check_api
from advfeat.flows.recipes import FLOWS
from advfeat.flows.regression import regression
from advfeat.planning import load_experiment
from advfeat.recipes import RECIPES
from advfeat.recipes.shared.own import FILES

_EARLIER_ENTRYPOINTS = ("flows.", "flows/")
"""Flows were modules of a package ``flows`` of their own before they were part of ``advfeat``."""


def main_job(where: str, store: str) -> RunnerDeployment:
    """Describe the deployment of the main job, on the preset digits."""
    experiment = load_experiment("digits").model_dump(mode="json", exclude_none=True)
    parameters = {"experiment": experiment, "store": store}
    return _deployment(learning_from_errors, where, parameters, "main job")


def grids(where: str, store: str) -> list[RunnerDeployment]:
    """Describe the deployments of all recipes."""
    return [_deployment(flow, where, {"store": store}, RECIPES[name].purpose) for name, flow in FLOWS.items()]


def deploy_to(pool: str, store: str, image: str | None) -> list[str]:
    """Create or renew all deployments for a work pool that is there, and return their names.

    Raises ``InputError`` if no server is configured or it has no such pool.
    """
    api = answering_server()
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            remedy = f"create it: prefect work-pool create {pool} --type process"
            raise InputError("pool", pool, f"is not on {api}", remedy) from None
    check = _deployment(regression, pool, {"store": store}, "check")
    found = [main_job(pool, store), *grids(pool, store), check]
    for deployment in as_switched(found):
        deployment.job_variables = _where_recipes_are()  # served ones inherit it, and may have none
        deployment.apply(work_pool_name=pool, image=image)
    return [f"{deployment.flow_name}/{deployment.name}" for deployment in found]


def answering_server() -> str:
    """Return the address of the Prefect server that is configured.

    Raises ``InputError`` if none is, or it does not answer.
    """
    if not (api := get_current_settings().api.url):
        raise InputError(
            "PREFECT_API_URL", api, "names no server", "set it to the server that runs are sent to"
        )
    check_api(api)
    return api


def as_switched(deployments: list[RunnerDeployment]) -> list[RunnerDeployment]:
    """Return the deployments so that they leave what people have switched on the server.

    ``RunnerDeployment`` would delete schedules that were made there, and resume what is paused.
    """
    paused = paused_on_the_server(deployment.name for deployment in deployments)
    for deployment in deployments:
        deployment.model_fields_set.discard("schedules")  # told of none, the server would delete its own
        deployment.paused = paused.get(deployment.name, False)
    return deployments


def paused_on_the_server(names: Iterable[str]) -> dict[str, bool]:
    """Return which of our deployments the server has, and of each whether it is paused."""
    ours = DeploymentFilter(
        name=DeploymentFilterName(any_=list(names)), tags=DeploymentFilterTags(all_=["advfeat"])
    )
    with get_client(sync_client=True) as client:
        found = _all_pages(partial(client.read_deployments, deployment_filter=ours))
        return {deployment.name: deployment.paused for deployment in found}


class Earlier(NamedTuple):
    """Deployments that earlier versions made, by name."""

    mended: list[str]
    """They looked for flows where there are none now, and find them again."""
    lost: list[str]
    """They look for flows where there are none now."""
    doubled: list[str]
    """Their runs go on as they did; this version has made each anew under another name."""


def earlier(made: Iterable[str], pool: str) -> Earlier:
    """Look for deployments on the server that are not of this version, beside those that were ``made``.

    Those of this pool, whose workers have this version, are told where their flows are now: their schedules,
    parameters and waiting runs go on.
    """
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=["advfeat"]))
    with get_client(sync_client=True) as client:
        found = list(_all_pages(partial(client.read_deployments, deployment_filter=ours)))
        flows = {flow: client.read_flow(flow).name for flow in {each.flow_id for each in found}}
        names = {f"{flows[each.flow_id]}/{each.name}": each for each in found}
        lost = {
            name for name, each in names.items() if (each.entrypoint or "").startswith(_EARLIER_ENTRYPOINTS)
        }
        mended = {name for name in lost if names[name].work_pool_name == pool}
        for name in mended:
            entrypoint = _of_today(names[name].entrypoint or "")
            client.update_deployment(names[name].id, DeploymentUpdate(entrypoint=entrypoint))
    renamed = {
        f"{flow}/{name.removeprefix(f'{flow}-')}" for flow, _, name in (m.partition("/") for m in made)
    }
    return Earlier(
        mended=sorted(mended),
        lost=sorted(lost - mended),
        doubled=sorted(name for name in names if name in renamed and name not in lost),
    )


def _of_today(entrypoint: str) -> str:
    """Return where a flow is now that a deployment names by a module, or a file, of the package ``flows``."""
    return "advfeat." + entrypoint.replace("/", ".").replace(".py:", ".")


def drop_earlier_local() -> None:
    """Delete what earlier versions served on this machine under the name of the place alone: nobody does now.

    One with a schedule of the user's stays, and is told of.
    """
    filters = {
        "name": DeploymentFilterName(any_=[LOCAL]),
        "tags": DeploymentFilterTags(all_=["advfeat"]),
    }
    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments(deployment_filter=DeploymentFilter(**filters)):
            if not deployment.schedules:
                client.delete_deployment(deployment.id)
                continue
            place = f"deployment {deployment.name} of {deployment.entrypoint}"
            print(f"advfeat: {place}: nobody serves it; schedule the new one, and delete it", file=sys.stderr)


def _all_pages(read: Callable[..., list[DeploymentResponse]]) -> Iterator[DeploymentResponse]:
    offset = 0
    while page := read(offset=offset):
        yield from page
        offset += len(page)


def _where_recipes_are() -> dict[str, Any]:
    """Return what lets runs find the recipes whose files the environment names here."""
    files = [str(Path(file).resolve()) for file in os.environ.get(FILES, "").split(os.pathsep) if file]
    return {"env": {FILES: os.pathsep.join(files)}} if files else {}


def _deployment(
    flow: Flow[..., Any], where: str, parameters: dict[str, Any], purpose: str
) -> RunnerDeployment:
    return RunnerDeployment.from_flow(
        flow,
        name=deployment_name(flow.name, where),
        description=flow.description,
        parameters=parameters,
        tags=[purpose, "advfeat", flow.name],  # lists of deployments show the first ones
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
