"""Where Python looks for modules when the user's own folders are on PYTHONPATH."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SHOW = """
import os
from advfeat.cluster.search_path import put_users_folders_last
put_users_folders_last()
import only_here, secrets, uuid
print(uuid.__file__, os.environ["PYTHONPATH"], only_here.__file__, sep="\\n")
"""


def test_nothing_is_imported_before_the_users_folders_are_last(tmp_path: Path) -> None:
    loaded_by_python = subprocess.run(
        [sys.executable, "-P", "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True
    ).stdout.split()
    known = {name for name in sys.stdlib_module_names if not name.startswith("_") and find_spec(name)}
    for name in {*known, "torch", "numpy", "ray"} - {*loaded_by_python}:
        (tmp_path / f"{name}.py").write_text(
            "raise RuntimeError('a module of the user stood in for another')"
        )
    start = (
        "from advfeat.flows.command_line.start import main; import sys; sys.argv[1:] = ['recipes']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", start],
        env={"PYTHONPATH": "."},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("given", [".", "", "{here}", "{here}/", "{here}/other/..", "sub:.", ":{here}/sub"])
def test_what_stands_on_pythonpath_is_looked_into_last(given: str, tmp_path: Path) -> None:
    for name in ("secrets.py", "uuid.py"):
        (tmp_path / name).write_text("raise RuntimeError('a module of the user stood in for another')")
    (tmp_path / "only_here.py").write_text("")
    (tmp_path / "sub").mkdir()
    entries = f"{given.format(here=tmp_path)}:{tmp_path}/lib/site-packages"
    done = subprocess.run(
        [sys.executable, "-P", "-c", SHOW],
        env={"PYTHONPATH": entries},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    uuid, kept, found = done.stdout.splitlines()
    assert not uuid.startswith(str(tmp_path))
    assert kept == f"{tmp_path}/lib/site-packages", "what is installed stays"
    assert Path(found).parent.samefile(tmp_path), "the user's own modules are found"
