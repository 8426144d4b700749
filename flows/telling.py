"""Tells other people's tools of runs that a deployment started; a command tells of its own by itself."""

import os

from prefect import get_run_logger
from prefect.runtime import deployment

from advfeat.errors import AdvfeatError
from advfeat.flows.result import RunResult
from advfeat.storage import Store
from advfeat.tracking.targets import Target


def target_of_deployment() -> Target | None:
    """Look at the tool that ``ADVFEAT_TRACK`` names where a deployment's run is computed.

    Raises ``InputError`` if it cannot be told.
    """
    named = os.environ.get("ADVFEAT_TRACK")
    return Target(named) if named and deployment.id is not None else None


def tell(target: Target | None, store: Store, result: RunResult) -> None:
    """Tell of a run that has ended; where that fails its log says how to repeat it."""
    if target is None:
        return
    try:
        target.tell(store, result.run)
    except AdvfeatError as error:
        get_run_logger().warning("%s", error)
