"""Whether somebody cancelled this run in Prefect."""

from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run


def is_cancelled() -> bool:
    """Tell whether somebody cancelled this flow run; where the server is silent, nobody did."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(str(flow_run.get_id()))).state
    except (httpx.HTTPError, OSError):
        return False
    return state is not None and (state.is_cancelled() or state.is_cancelling())
