"""``python -m deployments.notify URL``: tell an address when the regression check fails or crashes.

An automation of the Prefect server that ``PREFECT_API_URL`` names, which posts ``{"text": …}`` there, as
Slack, Mattermost and others take it. Told again with another address, it is replaced.
"""

import sys

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.events.actions import CallWebhook
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from advfeat.flows.regression import regression

NAME = "advfeat-regression-fails"
_TEXT = """{% set place = flow_run|ui_url %}{"text": {{ (
    flow.name ~ " " ~ flow_run.state.name ~ ": " ~ flow_run.state.message
    ~ " (run " ~ flow_run.id ~ (", " ~ place if place else "") ~ ")"
)|tojson }}}"""


def notify(url: str) -> None:
    """Make the automation, in place of an earlier one; Prefect encrypts the address, as it may be secret."""
    webhook = Webhook.model_validate({"url": url, "headers": {"Content-Type": "application/json"}})
    automation = AutomationCore(
        name=NAME,
        description="Tells when the nightly check of the figures fails.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": regression.name},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[CallWebhook(block_document_id=webhook.save(NAME, overwrite=True), payload=_TEXT)],
    )
    with get_client(sync_client=True) as client:
        for earlier in client.read_automations_by_name(NAME):
            client.delete_automation(earlier.id)
        client.create_automation(automation)


if __name__ == "__main__":
    notify(sys.argv[1])
