"""The notebook of the documentation: its cells run as Jupyter runs them, and show what it says."""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.command import Command

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebooks" / "first-experiment.ipynb"
LAST_CELL = """
import json
print(json.dumps({
    "accuracies": dict(zip(rows.recipe, rows.test_accuracy)),
    "chance": rows.chance.max(),
    "columns": sorted(set(columns) - set(rows)),
    "images": [list(images.shape), float(images.min()), float(images.max())],
    "labels_are_next": bool(((originals + 1) % 10 == labels.numpy()).all()),
}))
"""


def committed() -> Any:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    return notebook


def shown(notebook: Any) -> list[list[str]]:
    """Return the kinds of what each cell of code shows: html, png or plain text; progress is left out."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[min(output.data) for output in cell.outputs if output.output_type != "stream"] for cell in cells]


def test_it_runs_from_an_import_to_a_figure_of_ones_own(
    served_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = served_command.folder
    for name in (
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "IPYTHONDIR",
    ):  # no kernels and profiles of the user's
        monkeypatch.setenv(name, str(folder / name))
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    notebook = committed()
    expected = shown(notebook)
    notebook.cells.append(nbformat.v4.new_code_cell(LAST_CELL))  # type: ignore[no-untyped-call]
    place = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, timeout=400, kernel_name="python3", resources=place, coalesce_streams=True
    )
    client.execute(env={**served_command.environment(), "IPYTHONDIR": str(folder / "IPYTHONDIR")})

    found = json.loads(notebook.cells.pop().outputs[-1].text)
    accuracies = found["accuracies"]
    assert list(accuracies) == ["clean", "d_rand", "d_det", "shuffled"]
    assert accuracies["clean"] > accuracies["d_rand"] > accuracies["d_det"] > 2 * found["chance"]
    assert accuracies["shuffled"] < 2 * found["chance"]
    assert found["columns"] == []
    shape, darkest, brightest = found["images"]
    assert shape == [8, 1, 8, 8]
    assert 0 <= darkest < brightest <= 1
    assert found["labels_are_next"]
    assert shown(notebook) == expected, "run the notebook again and commit what it shows"

    (run,) = [cell for cell in notebook.cells if "advfeat.run(" in cell.source]
    (said,) = run.outputs
    lines = said.text.splitlines()
    finished = [line for line in lines if re.match(r"\[ ?\d+/19\] .*: computed", line)]
    assert len(finished) == 19
    assert "\x1b" not in said.text, "no bars in a notebook, whose every step would stay"
    assert "ipywidgets" not in said.text
    assert served_command.left_processes(patience_seconds=20) == []


def test_what_it_shows_is_small_and_knows_no_machine() -> None:
    text = NOTEBOOK.read_text()
    assert len(text) < 200_000
    assert re.findall(r"/tmp|/home|/root|/Users|site-packages", text) == []
    html, png = "text/html", "image/png"
    kinds = [kind for cell in shown(committed()) for kind in cell]
    assert kinds.count(png) == 2
    assert kinds.count(html) >= 3
