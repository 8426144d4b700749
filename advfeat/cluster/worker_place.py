"""Where a worker of Ray is, and where what it prints goes."""

from typing import NamedTuple

import ray
from ray._private.worker import WORKER_MODE, global_worker


class WorkerPlace(NamedTuple):
    """The id of a worker's node, and its log file there."""

    node: str
    log: str


def worker_place() -> WorkerPlace | None:
    """Return where this process is; None if it is no worker of a Ray."""
    if global_worker.mode != WORKER_MODE:
        return None
    return WorkerPlace(ray.get_runtime_context().get_node_id(), global_worker.get_out_file_path())
