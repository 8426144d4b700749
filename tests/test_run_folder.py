"""The temporary folder of a run: private, gone at the end, also those of runs that were killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from advfeat.cluster import run_folder
from advfeat.cluster.run_folder import folder_of_run

KILLED = """
import os, signal, sys
from pathlib import Path
from advfeat.cluster import run_folder
run_folder.socket_place = lambda: Path(sys.argv[1])
with run_folder.folder_of_run() as folder:
    (folder / "ray").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_is_private_and_gone_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "socket_place", lambda: tmp_path)
    with folder_of_run() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "ray").mkdir()
        (folder / "ray" / "log").touch()
    assert list(tmp_path.iterdir()) == []


def test_folders_of_killed_runs_go_with_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    monkeypatch.setattr(run_folder, "socket_place", lambda: tmp_path)
    with folder_of_run():
        assert left.exists(), "it may be one of a run that just begins"
    os.utime(left, (0, 0))
    with FileLock(left / "lock"), folder_of_run():
        assert left.exists(), "somebody holds it"
    os.utime(left, (0, 0))
    with folder_of_run() as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_of_the_users_own_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = [tmp_path / "advfeat.git", tmp_path / "advfeat.2026_old", tmp_path / "advfeat.notelock"]
    for folder in mine:
        folder.mkdir(mode=0o700)
        (folder / "work").touch()
    (mine[0] / "lock").touch()
    (tmp_path / "advfeat.linked01").symlink_to(mine[0])
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0), follow_symlinks=False)
    monkeypatch.setattr(run_folder, "socket_place", lambda: tmp_path)
    with folder_of_run():
        assert all((folder / "work").exists() for folder in mine)
    assert not (mine[1] / "lock").exists()
