"""Claims on stages: one run has each, keeps it as long as it lives, and gives it up in the end."""

import logging
import time

import pytest

from advfeat.flows.walk import claims
from advfeat.flows.walk.claims import Claims
from tests.servers import prefect_settings

DIGEST = "c1a1" * 16


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_claim_is_renewed_where_the_server_is_known_to_the_run_alone(
    prefect_api: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a run with an embedded server, whose address no variable of the environment need hold."""
    monkeypatch.setattr(claims, "_SECONDS_BETWEEN_RENEWALS", 0.5)
    caplog.set_level(logging.DEBUG, logger="advfeat.flows.walk.claims")
    with prefect_settings(prefect_api):
        with Claims() as first:
            assert first.take(DIGEST)
            assert first.take(DIGEST), "it has it already"
            time.sleep(2)
            with Claims() as second:
                assert not second.take(DIGEST)
        with Claims() as third:
            assert third.take(DIGEST)
    assert [record.message for record in caplog.records if record.name == "advfeat.flows.walk.claims"] == []
