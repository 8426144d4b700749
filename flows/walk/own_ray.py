"""A task runner with a Ray of its own on this machine, for a flow that was started without a cluster."""

from contextlib import ExitStack
from typing import Any, Self

import ray
from prefect_ray import RayTaskRunner

from advfeat.cluster.embedded import local_ray


class OwnRayRunner(RayTaskRunner[Any]):  # type: ignore[misc]  # its types are not told
    """Starts a Ray for as long as the flow lasts, unless this process is connected to one by then."""

    def __enter__(self) -> Self:
        """Start it."""
        self._own = ExitStack()
        if not ray.is_initialized():
            self._own.enter_context(local_ray())
        super().__enter__()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        """End it."""
        with self._own:
            super().__exit__(*exc_info)
