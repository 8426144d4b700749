"""Run a module whose garbage is collected in a thread of its own.

``python -m advfeat.cluster.garbage_thread MODULE …`` is ``python -m MODULE …`` but for that. It is for
Prefect's server on SQLite. Python collects in whichever thread happens to make an object, and what a failed
statement left of its cursor is freed only while nobody uses the cursor's connection. If another request waits
on that connection for SQLite's lock, and the request that holds the lock waits for the thread that collects,
the server answers nobody until SQLite gives up after a minute (Python 3.11, aiosqlite 0.22, Prefect 3.8).
"""

import gc
import runpy
import sys
import threading
import time

_SECONDS_BETWEEN_COLLECTIONS = 1.0
_COLLECTIONS_BETWEEN_WHOLE_ONES = 60
_YOUNG = 1


def main() -> None:
    """Run the module that ``sys.argv`` names, with the arguments after it."""
    gc.disable()
    threading.Thread(target=_collect, daemon=True, name="garbage").start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _collect() -> None:
    while True:
        for _ in range(_COLLECTIONS_BETWEEN_WHOLE_ONES):
            time.sleep(_SECONDS_BETWEEN_COLLECTIONS)
            gc.collect(_YOUNG)
        gc.collect()


if __name__ == "__main__":
    main()
