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
from advfeat.errors import InputError
from advfeat.flows.walk.ray_cluster import configured_address, has_gpus

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


def gpus_turned_up(gpus_per_stage: float | None = None) -> bool:
    """Connect to Ray; tell whether that has GPUs which were not known of before, or is to have some.

    Raises ``InputError`` where a share of a GPU is asked for on a Ray of the run's own that has none.
    """
    known = has_gpus()
    context = FlowRunContext.get()
    if context is not None and isinstance(context.task_runner, LateRay):
        context.task_runner.connect()
    there = has_gpus()
    if gpus_per_stage is not None and ray.is_initialized() and not there:
        if configured_address() is None:
            problem, remedy = (
                "cannot be had, as this Ray has no GPU",
                "leave it out, or give a cluster with --ray",
            )
            raise InputError("gpus_per_stage", gpus_per_stage, problem, remedy)
        return not known
    return there and not known
