"""Runs ``advfeat`` as a user does, and finds every process that came of it."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_MARK = "ADVFEAT_TEST_MARK"
CONFIGURATION = ("PREFECT_", "RAY_", "AWS_", "ADVFEAT_")
"""How the names of the variables start by which a user configures servers and stores."""

EVEN_RAY = {"RAY_worker_niceness": "0"}
"""Ray's workers would give way to all else, and on a busy machine not start in the time that they have."""

# A run of all five recipes that takes seconds: a part of the digits, few epochs and steps.
QUICK_ASSIGNMENTS = (
    *("data.train_size=384", "data.test_size=300", "seeds=[0]"),
    *("source.epochs=4", "target.epochs=4", "attack.steps=5"),
)
QUICK = tuple(word for assignment in QUICK_ASSIGNMENTS for word in ("--set", assignment))
QUICK_D_RAND = (*QUICK, "--set", "recipes=[d_rand]")


def unconfigured() -> dict[str, str]:
    """Return this process's environment without what configures servers and stores."""
    return {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURATION)}


@dataclass
class Command:
    """``advfeat`` in a working folder of its own; its processes are known by a mark."""

    folder: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(self, arguments: Sequence[str], program: str = "advfeat") -> "subprocess.Popen[str]":
        """Start it, or another program of this environment, in the background, in a group of its own."""
        return subprocess.Popen(
            [str(Path(sys.executable).parent / program), *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def __call__(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run it to its end."""
        process = self.start(arguments)
        stdout, stderr = process.communicate(timeout=400)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def succeed(self, *arguments: str) -> str:
        """Run it, assert that it succeeded, and return its standard output."""
        done = self(*arguments)
        assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stderr}"
        return done.stdout

    def left_processes(self, patience_seconds: float) -> list[str]:
        """Return the command lines of what still runs after at most so many seconds."""
        deadline = time.monotonic() + patience_seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return list(left.values())

    def processes(self) -> dict[psutil.Process, str]:
        """Return what runs of it, with the command lines."""
        found = {}
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found[process] = " ".join(process.cmdline())
            except psutil.Error:
                continue
        return found

    def environment(self) -> dict[str, str]:
        """Return the variables that its processes get, the mark among them."""
        return {**unconfigured(), **EVEN_RAY, **self.extra, _MARK: self.mark, "COLUMNS": "200"}
