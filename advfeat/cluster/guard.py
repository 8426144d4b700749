"""Run a command for as long as the process that started it lives.

``python -m advfeat.cluster.guard COMMAND…`` ends the command when its own standard input closes, which the
system does for every way in which the starter can end, ``kill -9`` included.
"""

import os
import subprocess
import sys
import threading

_GRACE_SECONDS = 5.0


def main() -> int:
    """Run the command in ``sys.argv`` and return its exit code."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_starter, args=(child,), daemon=True).start()
    return child.wait()


def _end_with_starter(child: "subprocess.Popen[bytes]") -> None:
    # Not sys.stdin: a thread that waits in it holds a lock that the interpreter needs to exit.
    while os.read(0, 4096):
        pass
    child.terminate()
    try:
        child.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


if __name__ == "__main__":
    sys.exit(main())
