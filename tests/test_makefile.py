"""What ``make`` installs from where: torch and torchvision from an index that the user names."""

import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PINNED = dict(
    re.findall(r"^(torch|torchvision)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
)


def commands(*variables: str) -> list[list[str]]:
    """Return what ``make`` would do for ``make run`` after the virtual environment is made."""
    asked = ["make", "--dry-run", "--always-make", "--old-file=.venv/bin/uv", ".venv/.installed", *variables]
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [shlex.split(line) for line in told.splitlines() if "uv pip install" in line]


def index_of(folder: Path, name: str, version: str) -> None:
    """Put a wheel that holds nothing into an index in a folder."""
    place = folder / name
    place.mkdir(parents=True)
    wheel = f"{name}-{version}-py3-none-any.whl"
    head = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(place / wheel, "w") as archive:
        archive.writestr(f"{head}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{head}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{head}/RECORD", f"{head}/METADATA,,\n{head}/WHEEL,,\n{head}/RECORD,,\n")
    (place / "index.html").write_text(f'<a href="{wheel.replace("+", "%2B")}">{wheel}</a>')


def test_torch_comes_from_the_usual_index_by_default() -> None:
    (install,) = commands()
    assert install[-2:] == ["--editable", "."]
    assert "--index" not in install


def test_torch_alone_comes_from_an_index_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version in PINNED.items():
        index_of(tmp_path / "index", name, f"{version}+cpu")
    torch, everything = commands(f"TORCH_INDEX={(tmp_path / 'index').as_uri()}")
    assert "--index" not in everything
    for name in filter(lambda name: name.startswith("UV_"), list(os.environ)):
        monkeypatch.delenv(name)
    uv = str(Path(sys.executable).parent / "uv")
    environment = tmp_path / "environment"
    quiet = ["--quiet", "--no-config", "--offline", "--cache-dir", str(tmp_path / "cache")]
    subprocess.run([uv, "venv", *quiet, str(environment)], check=True)
    python = str(environment / "bin" / "python")
    subprocess.run([uv, *torch[1:3], "--python", python, *quiet, *torch[3:]], cwd=ROOT, check=True)
    listed = subprocess.run(
        [uv, "pip", "freeze", *quiet, "--python", python], capture_output=True, text=True, check=True
    ).stdout
    assert listed.splitlines() == [f"{name}=={version}+cpu" for name, version in sorted(PINNED.items())]
