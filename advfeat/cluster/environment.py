"""The environment of what we start: composed, not inherited.

A user's shell says much that is meant for other programs: proxies of a company, switches of the interpreter,
settings of another Prefect or Ray. Servers and workers get none of it.
"""

import getpass
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from advfeat.cluster.private_files import private_folder
from advfeat.cluster.search_path import without_users_folders
from advfeat.cluster.sockets import socket_place

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")

_OF_OTHER_SERVERS = ("PREFECT_", "RAY_", "AWS_")

_KEPT_OF_PYTHON = {
    *("PYTHONHOME", "PYTHONPLATLIBDIR", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONDONTWRITEBYTECODE"),
    *("PYTHONPYCACHEPREFIX", "PYTHONHASHSEED", "PYTHONFAULTHANDLER", "PYTHONUNBUFFERED", "PYTHON_CPU_COUNT"),
}
"""Where the interpreter finds itself and leaves its bytecode; others change what it does, or make it wait."""

_OURS = {
    "PYTHONUTF8": "1",
    "PYTHONIOENCODING": "utf-8",
    "PYTHONWARNINGS": "ignore",
    "DO_NOT_TRACK": "1",
}

_NO_PROXY_ENTRY = re.compile(r"[A-Za-z0-9.*_-]+(:\d+)?(/\d+)?")


def composed() -> dict[str, str]:
    """Return the environment of a Python program that we start; it asks this machine through no proxy."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") or name in _KEPT_OF_PYTHON
    }
    return asking_loopback_directly(inherited) | without_users_folders() | _OURS


def of_a_server() -> dict[str, str]:
    """Return the environment of a server on this machine: nobody's settings, no proxy."""
    return {
        name: value
        for name, value in composed().items()
        if not name.startswith(_OF_OTHER_SERVERS) and not is_about_proxies(name)
    }


@contextmanager
def composed_environment() -> Iterator[None]:
    """Start processes meanwhile in a composed environment."""
    before = dict(os.environ)
    become(composed())
    try:
        yield
    finally:
        become(before)


def settle() -> None:
    """Let this process and what it starts have a home, track nobody, and ask this machine directly."""
    become(asking_loopback_directly(os.environ) | {"DO_NOT_TRACK": "1"} | _home_and_name())


def _home_and_name() -> dict[str, str]:
    """Return a home and a name for a user whom the system does not know, as in a container.

    Prefect and torch ask for them.
    """
    found = {}
    try:
        Path.home()
    except RuntimeError:
        found["HOME"] = str(private_folder(socket_place() / f"advfeat-{os.getuid()}"))
    found["USER"] = os.environ.get("USER") or account()
    return found


def account() -> str:
    """Return the name of the user's account, or one made of its number where the system knows no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user-{os.getuid()}"


def become(environment: Mapping[str, str]) -> None:
    """Let this process have an environment, and nothing of the one before."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ |= environment


def is_about_proxies(name: str) -> bool:
    """Tell whether a variable names a proxy, or what needs none, in any spelling that libraries read."""
    return name.lower().endswith("_proxy")


def asking_loopback_directly(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which no client asks this machine's own servers through a proxy.

    What the user lets go without a proxy goes on doing so. Without proxies nothing changes: a variable of
    ours would keep a Mac's clients from its own settings.
    """
    if not any(is_about_proxies(name) and not _is_exemption(name) for name in environment):
        return dict(environment)
    extended = {name: value for name, value in environment.items() if not _is_exemption(name)}
    given = {name.lower(): value for name, value in environment.items() if _is_exemption(name)}
    given |= {name: value for name, value in environment.items() if _is_exemption(name) and name.islower()}
    # Libraries differ in whether the lower or the upper case wins.
    of_lower = given.get("no_proxy", "")
    of_upper = environment.get("NO_PROXY", of_lower)
    extended |= {"no_proxy": _with_loopback(of_lower), "NO_PROXY": _with_loopback(of_upper)}
    if "no_grpc_proxy" in given:
        extended["no_grpc_proxy"] = _with_loopback(given["no_grpc_proxy"])
    return extended


def with_readable_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without proxies at which Prefect's client would fail, asked or not.

    It makes a connection of each before it looks who needs one: a SOCKS proxy, or an address that is none,
    ends it where all it asks is on this machine.
    """
    return {
        name: value
        for name, value in environment.items()
        if not is_about_proxies(name) or _is_exemption(name) or _is_readable(value)
    }


def _is_exemption(name: str) -> bool:
    return name.lower() in {"no_proxy", "no_grpc_proxy"}


def _with_loopback(exempt: str) -> str:
    """Extend a list of hosts that need no proxy, without entries that end Prefect's client."""
    entries = [_plain(entry) for entry in re.split(r"[,\s]+", exempt)]
    if "*" in entries:
        return "*"  # beside others, some libraries do not take it for all
    return ",".join(dict.fromkeys([*filter(None, entries), *LOOPBACK_NAMES]))


def _plain(entry: str) -> str | None:
    """Return an entry as all libraries read it, an address in brackets without them; None for others."""
    if _NO_PROXY_ENTRY.fullmatch(entry):
        return entry
    try:
        return str(ipaddress.ip_address(entry.strip("[]")))
    except ValueError:
        return None


def _is_readable(proxy: str) -> bool:
    import httpx  # Prefect's client is made of it

    try:
        return httpx.Proxy(proxy if "://" in proxy else f"http://{proxy}").url.scheme in {"http", "https"}
    except (ValueError, httpx.InvalidURL):
        return False
