"""Which run computes a stage when several need it: leases on Prefect's global concurrency limits.

A lease lasts a minute unless renewed, so a run that was killed gives up what it claimed. Artifacts are
published whole and never overwritten: a claim that is lost costs time, never a result.
"""

import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

LEASE_SECONDS = 60.0
_SECONDS_BETWEEN_RENEWALS = 20.0
_SECONDS_BETWEEN_TRIES = (0.05, 0.2, 1.0, 5.0, 25.0)

logger = logging.getLogger(__name__)


class Claims:
    """The stages that one run has claimed; all are given up when it ends."""

    def __init__(self) -> None:
        self._leases: dict[str, UUID] = {}
        self._ended = threading.Event()
        # Which server is asked may be a setting of this context alone, which threads do not inherit.
        here = contextvars.copy_context()
        self._renewal = threading.Thread(
            target=here.run, args=(self._renew,), daemon=True, name="claim-renewal"
        )

    def __enter__(self) -> Self:
        self._renewal.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        for digest in list(self._leases):
            self.give_up(digest)

    def take(self, digest: str) -> bool:
        """Claim a stage; return False if another run computes it now.

        A server that does not answer claims nothing and forbids nothing.
        """
        if digest in self._leases:
            return True
        try:
            with _client() as client:
                lease = _lease(client, claim_name(digest))
        except (httpx.HTTPError, OSError) as error:
            logger.debug("no claim on %s: %s", digest, error)
            return True
        if lease is not None:
            self._leases[digest] = lease
        return lease is not None

    def give_up(self, digest: str) -> None:
        """Let other runs have a stage; does nothing if it was not claimed."""
        if self._leases.pop(digest, None) is None:
            return
        try:
            with _client() as client:
                # The limit goes with its slots, also where the server forgot the lease in a restart.
                client.delete_global_concurrency_limit_by_name(claim_name(digest))
        except ObjectNotFound:
            pass
        except (httpx.HTTPError, OSError) as error:
            logger.debug("the claim on %s ends by itself: %s", digest, error)

    def _renew(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_RENEWALS):
            for lease in list(self._leases.values()):
                try:
                    with _client() as client:
                        client.renew_concurrency_lease(lease, LEASE_SECONDS)
                except (httpx.HTTPError, OSError) as error:
                    logger.debug("lease %s was not renewed: %s", lease, error)


def _client() -> SyncPrefectClient:
    """Return a client that asks a busy server again at once, and one that is away later and later.

    A server on SQLite answers 503 where two write at once, which is over in milliseconds; Prefect's client
    waits two seconds then, as long as many a stage takes.
    """
    return get_client(sync_client=True, httpx_settings={"event_hooks": {"response": [_retry_soon()]}})


def _retry_soon() -> Callable[[httpx.Response], None]:
    waits = iter(_SECONDS_BETWEEN_TRIES)

    def hook(response: httpx.Response) -> None:
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            response.headers.setdefault("Retry-After", str(next(waits, _SECONDS_BETWEEN_TRIES[-1])))

    return hook


def claim_name(digest: str) -> str:
    """Name the concurrency limit that stands for a stage."""
    return f"advfeat-{digest[:32]}"


def _lease(client: SyncPrefectClient, name: str) -> UUID | None:
    with contextlib.suppress(ObjectAlreadyExists):  # another run made it, and may hold it
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
    try:
        answer = client.increment_concurrency_slots_with_lease(
            names=[name], slots=1, mode="concurrency", lease_duration=LEASE_SECONDS
        )
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.LOCKED:
            return None
        raise
    body = answer.json()
    # Another run may have deleted the limit in between; then nothing was taken.
    return UUID(body["lease_id"]) if body["limits"] else None
