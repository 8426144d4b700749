"""Part ``machine``: the card with its driver and libraries, and how fast it multiplies matrices."""

import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch

from advfeat.hardware import device
from advfeat.spec import Spec
from benchmarks import machine
from benchmarks.table import Table


class Figures(Spec):
    """What the card is, and its peaks."""

    versions: dict[str, str]
    peaks: machine.Peaks

    def tables(self) -> list[Table]:
        """Return the figures as tables."""
        card = Table(title="Card and libraries", columns=("what", "value"), rows=tuple(self.versions.items()))
        return [card, *self.peaks.tables()]


def look(peaks: machine.Peaks) -> Figures:
    """Ask the card and its libraries what they are."""
    where = device()
    versions = {"torch": torch.__version__, "triton": _version("triton")}
    if where.type == "cuda":
        major, minor = torch.cuda.get_device_capability(where)
        versions |= {
            "card": torch.cuda.get_device_name(where),
            "compute capability": f"{major}.{minor}",
            "driver": _driver(),
            "CUDA": str(torch.version.cuda),
            "cuDNN": str(torch.backends.cudnn.version()),
        }
    return Figures(versions=versions, peaks=peaks)


def _driver() -> str:
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
