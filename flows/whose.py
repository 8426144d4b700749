"""Whose a run is: a name, for people who share a store and a Prefect server. It grants nothing."""

import os
from contextlib import suppress
from uuid import UUID

from advfeat.cluster.environment import account

USER = "ADVFEAT_USER"
TAG = "user:"
"""How the tag of a flow run begins that names a user."""


def this_user() -> str:
    """Return the name in ``ADVFEAT_USER``, else that of the account."""
    return os.environ.get(USER) or account()


def user_of_run() -> str:
    """Return whose the flow run of this process is, and tag it so; empty if nothing tells.

    A tag that somebody gave the run goes first. The account of a worker that runs a deployment says nothing.
    """
    import httpx  # here, as a run whose every stage is in the store needs nothing of Prefect
    from prefect.client.orchestration import get_client
    from prefect.runtime import deployment, flow_run

    tags = list(flow_run.get_tags())
    named = next((tag.removeprefix(TAG) for tag in tags if tag.startswith(TAG)), None)
    if named is not None:
        return named
    user = this_user() if deployment.id is None else os.environ.get(USER, "")
    if user:
        with suppress(httpx.HTTPError, OSError), get_client(sync_client=True) as client:
            client.update_flow_run(UUID(str(flow_run.get_id())), tags=[*tags, f"{TAG}{user}"])
    return user
