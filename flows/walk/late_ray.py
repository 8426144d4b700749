"""A task runner on Ray that connects when it is told to, not when its flow begins.

What a flow was given is looked at first: a wrong value is told at once, and not after Ray has started.
"""

from contextlib import ExitStack
from typing import Any, Self

import ray
from prefect.context import FlowRunContext
from prefect.task_runners import TaskRunner
from prefect_ray import RayTaskRunner

from advfeat.cluster.embedded import local_ray
from advfeat.cluster.termination import sigterm_kept
from advfeat.flows.walk.ray_cluster import has_gpus

OWN = "local"
"""Stands for the address of a Ray that is started for the flow, and ends with it."""


class LateRay(RayTaskRunner[Any]):  # type: ignore[misc]  # it has no types
    """Prefect's runner on Ray, connected by ``connect``."""

    def __enter__(self) -> Self:
        """Begin without Ray."""
        TaskRunner.__enter__(self)
        self._started = ExitStack()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        """End the Ray that was started, if one was."""
        with self._started:
            super().__exit__(*exc_info)

    def connect(self) -> None:
        """Connect to the cluster, or start a Ray; does nothing where this process is connected."""
        if ray.is_initialized():
            return
        if self.address == OWN:
            self._started.enter_context(local_ray())
        else:
            with sigterm_kept():
                ray.init(*([self.address] if self.address else []), **self.init_kwargs)
            self._owns_ray = True


def gpus_turned_up() -> bool:
    """Connect to Ray; tell whether that has GPUs which were not known of before."""
    known = has_gpus()
    context = FlowRunContext.get()
    if context is not None and isinstance(context.task_runner, LateRay):
        context.task_runner.connect()
    return has_gpus() and not known
