"""How long a process waits for its first attack: ``python -m benchmarks.gpu.first_call FOLDER``.

The folder holds a network and images. Asked for twice with one cache folder, the second process shows what
the compiler's files on disk save it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from advfeat import models
from advfeat.attacks import perturb
from advfeat.hardware import device
from advfeat.models import as_pixels
from advfeat.spec import Attack, Spec
from advfeat.training import shape_arguments
from benchmarks import measure
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.own_tests import REPOSITORY
from benchmarks.table import Table, figure
from benchmarks.workload import engine_for_long_work

_STEPS = 2


class Figures(Spec):
    """Seconds of the first call in processes that start one after another."""

    tile: int
    seconds: tuple[float, ...]
    """Of the attack: without what a process imports."""
    process_seconds: tuple[float, ...]

    def tables(self) -> list[Table]:
        """Return the figures as a table."""
        names = ("with an empty cache folder", "the next process")
        return [
            Table(
                title="A process's first attack, compiled",
                columns=("process", "first call, s", "whole process, s"),
                rows=tuple(
                    (name, figure(call), figure(process))
                    for name, call, process in zip(names, self.seconds, self.process_seconds, strict=False)
                ),
                note=f"{self.tile:,} images, {_STEPS} steps; the compiler keeps what it makes on disk.",
            )
        ]


def run(bench: Bench, _: Clock, keep: Callable[[Figures], None], folder: Path) -> None:
    """Start two processes, which share an empty cache folder."""
    where = next(bench.network.parameters()).device
    sizes, images = bench.sizes, bench.real_images
    tile = sizes.tiles[len(sizes.tiles) // 2] if where.type == "cuda" else 64
    arguments = shape_arguments(tuple(images.test.shape[1:]), bench.network_spec, len(images.classes))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(
        models.to_bytes(bench.network, {"name": sizes.model, **arguments})
    )
    rows = np.arange(tile) % len(images.test)
    np.savez(folder / "images.npz", images=images.test.numpy()[rows], labels=images.test_labels.numpy()[rows])
    seconds: list[float] = []
    whole: list[float] = []
    for number in range(2):
        bench.say(f"process {number + 1} of 2 compiles its first attack")
        began = time.perf_counter()
        seconds.append(_in_new_process(folder))
        whole.append(time.perf_counter() - began)
        keep(Figures(tile=tile, seconds=tuple(seconds), process_seconds=tuple(whole)))


def _in_new_process(folder: Path) -> float:
    caches = {
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    found = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.first_call", str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, **caches},
        capture_output=True,
        text=True,
    )
    if found.returncode:
        raise RuntimeError(found.stderr.strip().splitlines()[-1] if found.stderr.strip() else "it was killed")
    return float(json.loads(found.stdout.splitlines()[-1])["seconds"])


def main(folder: Path) -> None:
    """Attack what the folder holds, and print the seconds."""
    where = device()
    model = models.from_bytes((folder / "model.safetensors").read_bytes()).to(where)
    stored = np.load(folder / "images.npz")
    images: NDArray[np.uint8] = stored["images"]
    pixels = as_pixels(torch.from_numpy(images)).to(where)
    targets = torch.from_numpy((stored["labels"] + 1) % int(stored["labels"].max() + 1)).to(where)
    engine = replace(engine_for_long_work(model, pixels[:1]), tile=len(pixels))
    attack = Attack(norm="l2", eps=0.5, steps=_STEPS, step_size=0.1)
    _, seconds = measure.timed(lambda: perturb(model, pixels, targets, attack, engine=engine), where)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
