"""What this machine is, and how fast it multiplies matrices.

The peak of a precision is the best of several sizes of a square matrix product, each the median of
repeated products after one that is not counted: 2 n^3 floating-point operations over the seconds of
one. On a GPU CUDA events take the time. bf16 is left out where the processor would emulate it.
"""

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import torch

from advfeat.cluster import cores
from advfeat.hardware import has_bf16
from advfeat.spec import Spec
from benchmarks.peers import PEERS
from benchmarks.table import Table, figure

Precision = Literal["fp32", "tf32", "bf16"]

_INSTRUCTIONS = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "sve", "sve2")
_REPEATS = 5


class Machine(Spec):
    """The hardware and software that figures belong to; no name of the machine or of its user."""

    cpu: str
    cores: int
    threads: int
    memory_bytes: int
    instructions: tuple[str, ...]
    gpu: str | None
    gpu_memory_bytes: int | None
    system: str
    python: str
    torch: str
    peers: dict[str, str]

    @property
    def title(self) -> str:
        """The machine in a few words."""
        return self.gpu or ", ".join((self.cpu, *self.instructions[-1:], f"{self.cores} cores"))

    @property
    def slug(self) -> str:
        """The title as part of a file's name."""
        letters = "".join(letter if letter.isalnum() else " " for letter in self.title.lower())
        return "-".join(letters.split())

    def table(self) -> Table:
        """Return the description as a table."""
        gpu = "none" if self.gpu is None else f"{self.gpu}, {(self.gpu_memory_bytes or 0) / 2**30:.0f} GiB"
        return Table(
            title="Machine",
            columns=("what", "value"),
            rows=(
                ("CPU", self.cpu),
                ("cores this process may use", str(self.cores)),
                ("torch threads", str(self.threads)),
                ("memory", f"{self.memory_bytes / 2**30:.0f} GiB"),
                ("instruction sets", ", ".join(self.instructions) or "none of those that matter here"),
                ("GPU", gpu),
                ("operating system", self.system),
                ("Python", self.python),
                ("torch", self.torch),
                *self.peers.items(),
            ),
        )


class Peaks(Spec):
    """The matrix-product peak of each precision that the machine has, in FLOP/s."""

    flops_per_second: dict[Precision, float]

    def tables(self) -> list[Table]:
        """Return the peaks as a table."""
        rows = tuple((name, figure(peak / 1e9)) for name, peak in self.flops_per_second.items())
        return [
            Table(
                title="Matrix-product peak",
                columns=("precision", "GFLOP/s"),
                rows=rows,
                note="Best of several sizes, each the median of repeated products. "
                "A precision that the machine only emulates is left out.",
            )
        ]

    def best_with(self, other: "Peaks") -> "Peaks":
        """Return the higher of two measurements of each precision."""
        both = {name: max(peak, other.flops_per_second[name]) for name, peak in self.flops_per_second.items()}
        return Peaks(flops_per_second=both)


def describe() -> Machine:
    """Describe the machine that this process runs on."""
    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return Machine(
        cpu=_cpu_name(),
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        memory_bytes=_memory_bytes(),
        instructions=tuple(name for name in _INSTRUCTIONS if _capabilities().get(name)),
        gpu=None if gpu is None else gpu.name,
        gpu_memory_bytes=None if gpu is None else gpu.total_memory,
        system=_system(),
        python=platform.python_version(),
        torch=torch.__version__,
        peers={peer: peer_version(peer) or "not installed" for peer in PEERS},
    )


def peer_version(distribution: str) -> str | None:
    """Return the version of an installed peer, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def usable_cores() -> int:
    """Count the cores that the scheduler and the control group leave to this process."""
    allowed = cores.usable_cores()
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return max(1, min(allowed, round(int(quota) / int(period))))
    return allowed


def measure_peaks(where: torch.device, *, quick: bool) -> Peaks:
    """Measure the peak of every precision that the machine has."""
    return Peaks(
        flops_per_second={name: matrix_product_peak(name, where, quick=quick) for name in precisions(where)}
    )


def precisions(where: torch.device) -> list[Precision]:
    """List the precisions that the machine computes in hardware."""
    found: list[Precision] = ["fp32", "tf32"] if where.type == "cuda" else ["fp32"]
    return [*found, "bf16"] if has_bf16(where) else found


def matrix_product_peak(precision: Precision, where: torch.device, *, quick: bool = False) -> float:
    """Return the FLOP/s of the fastest square matrix product."""
    sizes = (4096, 8192) if where.type == "cuda" else (1024, 2048, 4096)
    with multiplying_in(precision):
        return max(_product_speed(size, precision, where) for size in (sizes[:-1] if quick else sizes))


@contextmanager
def multiplying_in(precision: Precision) -> Iterator[None]:
    """Let float32 products be computed in full float32, or in TF32, and restore what was set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _product_speed(size: int, precision: Precision, where: torch.device) -> float:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=where).to(dtype) for _ in range(2))
    product = torch.empty(size, size, device=where, dtype=dtype)
    clock = _seconds_on_gpu if where.type == "cuda" else _seconds_on_cpu

    def multiply() -> None:
        torch.mm(left, right, out=product)

    multiply()
    seconds = statistics.median(clock(multiply) for _ in range(_REPEATS))
    return 2 * size**3 / seconds


def _seconds_on_cpu(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _seconds_on_gpu(work: Callable[[], None]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000


def _capabilities() -> Mapping[str, object]:
    known: Mapping[str, object] = torch.cpu.get_capabilities()
    return known


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        return min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    return memory


def _system() -> str:
    with suppress(OSError):
        return f"{platform.system()} ({platform.freedesktop_os_release()['PRETTY_NAME']})"
    return platform.system()
