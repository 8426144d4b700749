"""Where sockets may lie: the system limits the length of their paths, and TMPDIR's may be long."""

import os
import sys
import tempfile
from pathlib import Path

from advfeat.errors import ServerStartError

_MOST_BYTES = 107 if sys.platform == "linux" else 103
_LONGEST_BELOW = "/advfeat-12345678/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.99"
"""What Ray makes of a folder of ours."""


def socket_place() -> Path:
    """Return the first of the system's temporary folders in which sockets can lie.

    That is TMPDIR's where it is short enough; raises ``ServerStartError`` if none is.
    """
    places = [Path(tempfile.gettempdir()), *_others()]
    for place in places:
        if _can_hold_sockets(place):
            return place
    raise ServerStartError(
        f"no folder for sockets: {', '.join(map(str, places))} cannot be written to, or have paths "
        "too long for one; set TMPDIR to a short path"
    )


def _others() -> list[Path]:
    given = os.environ.get("XDG_RUNTIME_DIR")
    return [Path(place) for place in (given, "/tmp", "/var/tmp") if place]


def _can_hold_sockets(place: Path) -> bool:
    length = len(os.fsencode(place.absolute())) + len(_LONGEST_BELOW)
    return length <= _MOST_BYTES and place.is_dir() and os.access(place, os.W_OK | os.X_OK)
