"""The PyTorch process group of a training by several Ray workers, out of strangers' sight.

As Ray sets one up, torch's meeting point (its ``TCPStore``) listens on all interfaces of a machine, and it
knows no credentials. Here it listens on the address alone by which Ray knows the node: on a Ray of one
machine that is the loopback interface.
"""

import ipaddress
import os
import socket
from contextlib import suppress
from typing import Any, NamedTuple

import ray
from ray.exceptions import GetTimeoutError
from ray.train.backend import Backend, BackendConfig
from ray.train.torch import TorchConfig
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

_LEAVE_SECONDS = 5.0


class MeetingPoint(NamedTuple):
    """Where the workers of a group find each other."""

    host: str
    port: int


class NodeAddressConfig(TorchConfig):
    """Ray Train's configuration of PyTorch, with a meeting point on the first worker's own address."""

    @property
    def backend_cls(self) -> type[Backend]:
        """What sets the process group up."""
        return _NodeAddressBackend


class _NodeAddressBackend(Backend):
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, _: BackendConfig) -> None:
        backend = "nccl" if worker_group.get_resources_per_worker().get("GPU") else "gloo"
        size = len(worker_group)
        place = worker_group.execute_single(0, _open_meeting_point, size)
        ray.get(
            [
                worker_group.execute_single_async(rank, _join, place, rank, size, backend)
                for rank in range(size)
            ]
        )

    def on_shutdown(self, worker_group: Any, _: BackendConfig) -> None:
        with suppress(GetTimeoutError):
            ray.get(worker_group.execute_async(_leave), timeout=_LEAVE_SECONDS)


_server: TCPStore | None = None
"""The meeting point, in the process of the first worker."""


def _open_meeting_point(size: int) -> MeetingPoint:
    global _server  # torch ends it with the last reference
    host = ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, 0), family=family)
    port = listening.getsockname()[1]
    _server = TCPStore(
        host, port, size, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
    )
    return MeetingPoint(host, port)


def _join(place: MeetingPoint, rank: int, size: int, backend: str) -> None:
    if ipaddress.ip_address(place.host).is_loopback:
        (loopback, *_) = (name for _, name in socket.if_nameindex() if name.startswith("lo"))
        os.environ["GLOO_SOCKET_IFNAME"] = loopback  # by itself gloo takes what the machine's name means
    store = TCPStore(place.host, place.port, size, is_master=False)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size)


def _leave() -> None:
    global _server
    if distributed.is_initialized():
        distributed.destroy_process_group()
    _server = None
