"""Where Python looks for modules when the user's own folders are on PYTHONPATH."""

import subprocess
import sys
from pathlib import Path

import pytest

SHOW = """
import os
from advfeat.cluster.search_path import put_users_folders_last
put_users_folders_last()
import only_here, secrets, uuid
print(uuid.__file__, os.environ["PYTHONPATH"], only_here.__file__, sep="\\n")
"""


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
