"""Where a worker of Ray is, on which GPU, and where what it prints goes."""

import os
from typing import NamedTuple

import ray
from ray._private.worker import WORKER_MODE, global_worker


class WorkerPlace(NamedTuple):
    """The id of a worker's node, its log file there, and the numbers of the GPUs that Ray gave it."""

    node: str
    log: str
    gpus: str | None


def worker_place() -> WorkerPlace | None:
    """Return where this process is; None if it is no worker of a Ray."""
    if global_worker.mode != WORKER_MODE:
        return None
    context = ray.get_runtime_context()
    has_gpus = bool(context.get_accelerator_ids().get("GPU"))
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES") if has_gpus else None
    return WorkerPlace(context.get_node_id(), global_worker.get_out_file_path(), gpus)
