"""The variables that name certificates: a stale one ends every client of the network, and is not told."""

import os
import ssl
from pathlib import Path

from advfeat.errors import InputError

_FILES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
_FOLDERS = "SSL_CERT_DIR"


def check_certificates() -> None:
    """Raise ``InputError`` if a variable names certificates that are not there or are none."""
    for name in (*_FILES, _FOLDERS):
        given = os.environ.get(name)
        problem = _problem(name, given) if given else None
        if problem is not None:
            raise InputError(name, given, problem, "name certificates that are there, or unset it")


def _problem(name: str, given: str) -> str | None:
    folders = given.split(os.pathsep) if name == _FOLDERS else [given]
    if any(Path(folder).is_dir() for folder in folders):
        return None
    if name == _FOLDERS:
        return "is not a folder"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(given)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return None
