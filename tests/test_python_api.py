"""The library's functions: in a script, inside an event loop, and with what cannot be."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import advfeat
from advfeat.errors import InputError
from tests.command import QUICK_ASSIGNMENTS, unconfigured

PROGRAM = """
import asyncio, json, os
import matplotlib.pyplot, sklearn.datasets  # which set variables of their own when they are imported
import advfeat

quick = json.loads(os.environ["QUICK"])

async def main():
    before, beats = dict(os.environ), 0
    async def beat():
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0.1)
    beating = asyncio.create_task(beat())
    first = await asyncio.to_thread(advfeat.run, "digits", quick)
    beating.cancel()
    again = advfeat.run("digits", quick)  # in the thread of the loop, as a notebook does
    fields = {name: value for name, value in quick.items() if "." in name}
    grid = advfeat.grid("d_rand", {"eps": [1.5], "seeds": [0], **fields})
    print(json.dumps({
        "beats": beats,
        "computed": [first.computed, again.computed, grid.computed],
        "same": first.rows.equals(again.rows),
        "accuracies": dict(zip(first.rows.recipe, first.rows.test_accuracy)),
        "eps": list(grid.rows.eps),
        "grid": list(grid.rows.test_accuracy),
        "page": again._repr_html_(),
        "report": first.report.is_file(),
        "changed": sorted(name for name, _ in os.environ.items() ^ before.items()),
        "runs": list(again.store.runs().state),
        "planned": advfeat.plan("digits", quick).rows.state.unique().tolist(),
    }))

asyncio.run(main())
"""


def test_runs_from_an_asyncio_program_in_a_folder_of_other_modules(
    prefect_api: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    (folder / "flows").mkdir(parents=True)
    for module in ("tasks.py", "secrets.py", "flows/__init__.py"):
        (folder / module).write_text("raise RuntimeError('a module of the user stood in for another')\n")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    assignments = (assignment.partition("=") for assignment in QUICK_ASSIGNMENTS)
    quick = {name: json.loads(value) for name, _, value in assignments} | {"recipes": ["clean", "d_rand"]}
    done = subprocess.run(
        [sys.executable, program],
        env={**unconfigured(), **prefect_api, "QUICK": json.dumps(quick)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["beats"] > 20, "the event loop went on meanwhile"
    assert found["computed"] == [11, 0, 1], "a grid of one point adds its report"
    assert found["same"]
    assert found["accuracies"]["clean"] > found["accuracies"]["d_rand"] > 0.3
    assert (found["eps"], found["grid"]) == ([1.5], [found["accuracies"]["d_rand"]])
    assert '<table class="results">' in found["page"]
    assert found["report"]
    assert found["changed"] == [], "the environment is left as it was"
    assert found["runs"] == ["completed"] * 3
    assert found["planned"] == ["cached"]


def test_settings_are_what_python_has(tmp_path: Path) -> None:
    settings = {
        "attack.eps": np.float32(0.5),
        "seeds": range(2),
        "recipes": ("clean", "d_rand"),
        "attack.steps": np.int64(3),
    }
    plan = advfeat.plan("digits", settings, store=str(tmp_path / "store"))
    assert set(plan.rows.columns) == {"digest", "stage", "title", "state", "why"}
    assert list(plan.rows.title).count("evaluation d_rand, seed 1") == 1
    assert "evaluation d_rand" in plan._repr_html_()


def test_what_cannot_be_is_refused_before_anything_starts(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    for settings, problem in (
        ({"attack.epz": 1}, r"attack\.epz: 1 is given to a field that does not exist; did you mean eps"),
        ({"attack.eps": object()}, r"attack\.eps: .* is not a plain value"),
        ({"recipes": ["d_rnd"]}, "did you mean d_rand"),
    ):
        with pytest.raises(InputError, match=problem):
            advfeat.run("digits", settings, store=store)
    with pytest.raises(InputError, match="recipe: 'd_rnd' is unknown"):
        advfeat.grid("d_rnd", store=store)
    with pytest.raises(InputError, match="makes 300 experiments"):
        advfeat.grid("d_rand", {"seeds": range(300)}, store=store)


def test_an_interrupt_reaches_a_run_in_a_thread_of_its_own() -> None:
    from advfeat.flows.python_api import _in_thread_of_its_own

    async def raising() -> None:
        def compute() -> None:
            raise KeyboardInterrupt

        _in_thread_of_its_own(compute)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(raising())


def test_what_is_not_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = advfeat.nothing
    assert {"run", "grid", "plan", "store", "reproduce"} <= set(dir(advfeat))
