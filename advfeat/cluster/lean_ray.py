"""Ray's start without the programs that a run on one machine does not use.

``ray.init`` has no argument for them: the monitor that adds and removes nodes, the one that prints what
workers log, and the server of the dashboard, which starts even where the dashboard is off.
"""

import contextlib
from collections.abc import Iterator

from ray._private.node import Node

_UNUSED = ("start_monitor", "start_log_monitor", "start_api_server")


@contextlib.contextmanager
def lean_start() -> Iterator[None]:
    """Let a node that starts in this block start none of them."""
    kept = {name: getattr(Node, name) for name in _UNUSED if hasattr(Node, name)}
    for name in kept:
        setattr(Node, name, _start_nothing)
    try:
        yield
    finally:
        for name, start in kept.items():
            setattr(Node, name, start)


def _start_nothing(_node: Node, **_options: object) -> None:
    """Stand in for the start of a program."""
