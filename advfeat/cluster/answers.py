"""Whether a server answers: asked for a limited time, whatever its client would do."""

import socket
from collections.abc import Callable
from typing import TypeVar

from advfeat.ahead import begun
from advfeat.errors import first_line

Answer = TypeVar("Answer")

PATIENCE_SECONDS = 8.0
"""For a server that somebody configured to answer for the first time."""

_HELLO_OF_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_TYPE_OF_SETTINGS = 4


def within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """Return what ``ask`` returns; raises what it raises, and ``TimeoutError`` if it takes longer.

    It may then go on in a thread that holds nothing up: clients, and the system that looks up names, have
    limits of their own.
    """
    _, answer = begun(ask, name="advfeat-asks", daemon=True)
    try:
        return answer.result(seconds)
    except TimeoutError as error:
        if answer.done():
            raise
        raise TimeoutError(f"no answer in {seconds:.0f} s") from error


def check_answers_http(url: str) -> None:
    """Raise ``ConnectionError`` if nobody answers at a URL, asked by the user's proxies; any answer will do.

    It is told no credentials, as whom to trust is a setting of the client that asks next.
    """
    import httpx

    address = httpx.URL(url).copy_with(userinfo=b"")
    try:
        within(PATIENCE_SECONDS, lambda: httpx.get(address, timeout=PATIENCE_SECONDS, verify=False))
    except (httpx.TransportError, TimeoutError) as error:
        raise ConnectionError(f"nobody answers at {address}: {first_line(error)}") from error
    except (ImportError, ValueError):
        return  # a proxy, such as one of SOCKS, that another client may be able to ask


def check_speaks_grpc(host: str, port: int) -> None:
    """Raise ``OSError`` unless a server of gRPC without TLS listens there, as every part of a Ray does."""
    with socket.create_connection((host, port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(_HELLO_OF_HTTP2)
        frame = connection.makefile("rb").read(4)
        if len(frame) < 4 or frame[3] != _TYPE_OF_SETTINGS:
            raise ConnectionError("what listens there does not speak gRPC")
