"""The Prefect server of a run: the user's where one is configured, else an embedded one.

The user's server is asked as the user's settings say. An embedded one, and this process while it asks it,
know their own settings alone.
"""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from advfeat.cluster.answers import PATIENCE_SECONDS, within
from advfeat.cluster.embedded import HOME, PrefectServer, prefect_server
from advfeat.cluster.environment import asking_loopback_directly, become, with_readable_proxies
from advfeat.errors import InputError, explained, first_line
from advfeat.flows.display.lines import waits_for

if TYPE_CHECKING:
    from pydantic import BaseModel

_DELIVERY_SECONDS = 10.0

_OF_SERVERS = ("PREFECT_SERVER_", "PREFECT_API_DATABASE_", "PREFECT_API_SERVICES_", "PREFECT_UI_")
"""How the names of settings start that a client has no use for, of earlier versions too."""

_WHAT_IS_LOGGED = "logging"
"""The user's settings that are kept for an embedded server: they change nothing else."""

_CLIENT_SETTINGS = {
    # Without an address of a server, Prefect would start one in every process: an error is better.
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
_DEFAULTS = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore"}


@contextlib.contextmanager
def prefect_api() -> Iterator[PrefectServer | None]:
    """Point this process and those that it starts to a Prefect server; give it if it starts just now.

    Raises ``InputError`` if a server is configured and does not answer.
    """
    # What ends a flow becomes the caller's error; on the console Prefect need not print it as well.
    logging.getLogger("prefect.flow_runs").propagate = False
    configured = configured_api()
    if configured:
        os.environ["PREFECT_API_URL"] = configured
        check_api(configured)
        yield None
        return
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_SSL_CERT_FILE,
        PREFECT_API_URL,
        PREFECT_HOME,
        get_current_settings,
        temporary_settings,
    )

    become(with_readable_proxies(os.environ))
    home = (HOME / "prefect").resolve()
    waits_for("starting a Prefect server …")
    with prefect_server() as server:
        settings = {
            PREFECT_API_URL: server.url,
            PREFECT_API_AUTH_STRING: server.credentials,
            PREFECT_API_SSL_CERT_FILE: str(server.certificates),
            PREFECT_HOME: home,
        }
        become({name: value for name, value in os.environ.items() if not _is_users_setting(name)})
        os.environ |= server.variables | _CLIENT_SETTINGS | {"PREFECT_HOME": str(home)}
        by_default = dict(_defaults_of_given(get_current_settings()))
        with temporary_settings(by_default | settings) as ours:
            ours.client.custom_headers.clear()  # Prefect adds to a dictionary where it is told to replace it
            try:
                yield server
            finally:
                _deliver_records()


def configured_api() -> str | None:
    """Return the address of the API that the user configured, by a variable, a file or Prefect's profile.

    Raises ``InputError`` if Prefect cannot read its settings.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OF_SERVERS)}
    become(asking_loopback_directly(_DEFAULTS | kept | _CLIENT_SETTINGS))
    # Of what it cannot read Prefect warns and prints, before it ends with the error.
    silent = contextlib.redirect_stderr(io.StringIO())
    with explained(_settings_refused, "cannot be read"), warnings.catch_warnings(), silent:
        warnings.simplefilter("ignore")
        from prefect.settings import get_current_settings

        url: str | None = get_current_settings().api.url
    if url and _is_on_this_machine(url):
        become(with_readable_proxies(os.environ))
    return url


def check_api(url: str) -> None:
    """Raise ``InputError`` if no Prefect server answers at the address, or it refuses this client."""
    try:
        problem = within(PATIENCE_SECONDS, _problem)
    except Exception as error:  # a client that cannot be made of the settings raises its own
        problem = f"does not answer ({first_line(error)})"
    if problem is not None:
        raise InputError("PREFECT_API_URL", url, problem, "start that server or unset the address")


def _problem() -> str | None:
    """Return what is wrong with the configured server, if anything is."""
    import httpx
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True, httpx_settings={"timeout": PATIENCE_SECONDS}) as client:
        if (error := client.api_healthcheck()) is not None:
            return f"does not answer ({first_line(error)})"
        try:
            version = client.api_version()
        except httpx.HTTPStatusError as refused:
            if refused.response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
                return "refuses this client, whose PREFECT_API_AUTH_STRING or PREFECT_API_KEY is not its own"
            return f"does not answer as Prefect does ({refused.response.status_code} for its version)"
        except ValueError:
            return "is not an API of Prefect, whose address ends in /api"
    return None if isinstance(version, str) else "is not an API of Prefect, whose address ends in /api"


def _defaults_of_given(settings: "BaseModel", place: str = "") -> Iterator[tuple[Any, Any]]:
    """Name what the user set, wherever that was found, as Prefect does (``api.url``), and its default."""
    from pydantic import BaseModel

    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            if f"{place}{name}" != _WHAT_IS_LOGGED:
                yield from _defaults_of_given(value, f"{place}{name}.")
        elif name in settings.model_fields_set and not field.default_factory_takes_validated_data:
            yield f"{place}{name}", field.get_default(call_default_factory=True)


def _is_users_setting(name: str) -> bool:
    return name.startswith("PREFECT_") and not name.startswith("PREFECT_LOGGING_")


def _settings_refused(problem: str) -> InputError:
    return InputError("Prefect's settings", "PREFECT_*", problem, "correct or unset what it names")


def _is_on_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def _deliver_records() -> None:
    """Send the states and logs that Prefect still holds in this process, while the server is there."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for records in (EventsWorker, APILogWorker):
        records.drain_all(timeout=_DELIVERY_SECONDS)
