"""Grids: which experiments they make, what those share, and what a run of one leaves behind."""

import json
import re
import shlex
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advfeat.errors import InputError
from advfeat.planning import build_grid_plan, build_plan, grid_report, load_experiment
from advfeat.planning.forms import GRIDS, Grid
from advfeat.planning.grid import Point, load_grid, points, title_of
from advfeat.storage import Stage, Store
from tests.command import Command
from tests.inline import compute

SMALL = ("data.train_size=256", "data.test_size=200", "source.epochs=3", "target.epochs=3", "attack.steps=5")

AXES = st.fixed_dictionaries(
    {
        "eps": st.lists(st.floats(0.1, 2), max_size=4, unique=True),
        "steps": st.lists(st.integers(1, 50), max_size=3, unique=True),
        "schedule": st.lists(st.sampled_from(["constant", "cosine", "apgd"]), max_size=2, unique=True),
        "target_model": st.lists(st.sampled_from(["mlp", "cnn"]), max_size=2, unique=True),
        "seeds": st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True),
    }
)


@given(AXES)
def test_a_product_is_every_value_with_every_other(axes: dict[str, list[Any]]) -> None:
    grid = GRIDS["d_rand"].model_validate(axes)
    found = points("d_det", grid)
    assert len(found) == prod(len(values) or 1 for values in axes.values())
    assert len({tuple(point.axes.items()) for point in found}) == len(found)
    for point in found:
        for axis in ("eps", "steps", "schedule"):
            if axis in point.axes:
                assert getattr(point.experiment.attack, axis) == point.axes[axis]
        assert point.experiment.seeds == (point.axes["seed"],)
        assert point.experiment.recipes == ("d_det",)


def test_paired_axes_go_side_by_side() -> None:
    grid = load_grid("d_rand", ["eps=[0.5,1.0]", "steps=[10,20]", "norm=l2", "combine=paired", "seeds=[0,1]"])
    assert [
        (p.axes["eps"], p.axes["steps"], p.axes["norm"], p.axes["seed"]) for p in points("d_rand", grid)
    ] == [
        (0.5, 10, "l2", 0),
        (0.5, 10, "l2", 1),
        (1.0, 20, "l2", 0),
        (1.0, 20, "l2", 1),
    ]


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (
            ["eps=[1,2]", "steps=[1,2,3]", "combine=paired"],
            "eps: [1.0, 2.0] has 2 values, other paired axes have 3",
        ),
        (["steps=[" + ",".join(map(str, range(1, 70))) + "]"], "makes 207 experiments, the limit is 200"),
        (["eps=-1"], "eps: -1 is not greater than 0"),
        (["eps=[1,1]"], "eps: [1, 1] names a value twice"),
        (["epz=1"], "epz: [1] is given to a field that does not exist; did you mean eps?"),
        (["data=cifar"], "data: 'cifar' is unknown; did you mean cifar10?"),
        (["attack.epz=1"], "attack.epz: 1 is given to a field that does not exist; did you mean eps?"),
        (["norm=l0", "eps=0.5"], "attack.eps: 0.5 is not a whole number of values"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_in_a_line(assignments: list[str], message: str) -> None:
    with pytest.raises(InputError) as refused:
        points("d_det", load_grid("d_det", assignments))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_points_share_is_one_stage() -> None:
    plan = build_grid_plan(points("d_det", load_grid("d_det", ["eps=[0.5,1,1.5]", "steps=[5,10,20]"])))
    kinds = Counter(stage.kind for stage in plan.stages)
    assert (kinds["images"], kinds["source_model"], kinds["target_model"]) == (1, 3, 27)
    titles = [stage.title for stage in plan.stages]
    assert len(set(titles)) == len(titles), "each says where in the grid it belongs"
    assert "target model d_det, seed 2, eps 0.5, steps 20" in titles
    assert "source model, seed 2" in titles


def test_a_point_is_the_experiment_that_its_command_runs(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((9, 8, 8), np.uint8), labels=np.arange(9))
    for recipe, form in GRIDS.items():
        axis = "target_epochs=[7]" if "target_epochs" in form.model_fields else "seeds=[7]"
        needed = [f"imported=numpy:{tmp_path}/set.npz"] if "imported" in form.model_fields else []
        (point, *_) = points(recipe, load_grid(recipe, [axis, *needed, *SMALL]))
        _, _, preset, *words = shlex.split(point.command)
        alone = build_plan(load_experiment(preset, words[1::2]))
        grid = build_grid_plan([point])
        assert {stage.digest for stage in grid.stages} == {stage.digest for stage in alone.stages[:-1]}


def test_titles_say_what_is_run() -> None:
    assert title_of(
        "d_det", load_grid("d_det", ["data=cifar10", "norm=l2", "eps=0.5", "seeds=[0,1,2,3,4]"])
    ) == ("d_det · cifar10 · l2 · eps 0.5 · 5 seeds")


def report_of(grid: Grid, store: Store) -> Stage:
    found = points("d_det", grid)
    plan = build_grid_plan(found)
    for stage in plan.stages:
        compute(stage, store)
    report = grid_report("a grid", found, plan.made_of)
    compute(report, store)
    return report


@pytest.mark.slow
def test_the_report_holds_every_row_and_needs_no_network(shared_store: Store) -> None:
    form = {"eps": (0.5, 1.5), "steps": (2, 5), "seeds": (0, 1), "settings": SMALL[:-1]}
    grid = GRIDS["d_rand"].model_validate(form)
    report = report_of(grid, shared_store)
    page = shared_store.read(report.digest, "report.html").decode()
    assert len(page) < 1_000_000
    assert re.search(r"""(src|href)=["']?https?:""", page) is None
    for heading in ("Accuracy against eps", "Accuracy by eps", "Learning curves", "confuse", "Cost"):
        assert heading in page
    rows = json.loads(shared_store.read(report.digest, "rows.json"))
    assert len(rows) == 8
    for row in rows:
        assert row["command"] in page.replace("&#39;", "'")
        assert row["cost"]["seconds"] > 0
        assert 0 <= row["source_agreement"] <= 1
    path = Path(shared_store.artifact_uri(report.digest))
    (parquet,), (csv,) = path.glob("rows-*.parquet"), path.glob("rows-*.csv")
    assert pd.read_parquet(parquet)["test_accuracy"].tolist() == [row["test_accuracy"] for row in rows]
    assert pd.read_csv(csv)["axes.eps"].tolist() == [row["axes"]["eps"] for row in rows]


def test_a_grid_from_the_command_line(served_command: Command) -> None:
    axes = ("--set", "eps=[0.5,1.5]", "--set", "seeds=[0,1]")
    settings = [word for assignment in SMALL for word in ("--set", assignment)]
    first = json.loads(served_command.succeed("grid", "d_det", "--json", *axes, *settings))
    assert [(row["axes"]["eps"], row["axes"]["seed"]) for row in first["rows"]] == [
        (eps, seed) for eps in (0.5, 1.5) for seed in (0, 1)
    ]
    assert first["stages"]["computed"] == first["stages"]["total"]

    reports = [e for e in json.loads(served_command.succeed("ls", "--json")) if e["stage"] == "grid_report"]
    page = Path(served_command.succeed("report", reports[0]["digest"][:10]).strip())
    assert page.read_bytes() == Path(first["report"]).read_bytes()

    more = ("--set", "eps=[0.5,1.0,1.5]", "--set", "seeds=[0,1]")
    second = json.loads(served_command.succeed("grid", "d_det", "--json", *more, *settings))
    new = second["stages"]["total"] - first["stages"]["total"]
    assert second["stages"]["computed"] == new + 1, "what belongs to the new eps, and the report"
    known = {tuple(row["axes"].items()): row["test_accuracy"] for row in first["rows"]}
    assert known.items() <= {tuple(r["axes"].items()): r["test_accuracy"] for r in second["rows"]}.items()

    command = shlex.split(first["rows"][0]["command"])
    assert command[:2] == ["advfeat", "run"]
    planned = json.loads(served_command.succeed("plan", "--json", *command[2:]))
    assert [entry["title"] for entry in planned if entry["state"] == "compute"] == ["report"]


@pytest.mark.slow
def test_a_grid_in_the_plane_shows_its_planes(local_store: Store) -> None:
    grid = load_grid("two_dimensional", ["points=[8,12]", "seeds=[0]", "two_dimensional.planes=2"])
    points_of_grid = points("two_dimensional", grid)
    plan = build_grid_plan(points_of_grid)
    report = grid_report("planes", points_of_grid, plan.made_of)
    for stage in (*plan.stages, report):
        compute(stage, local_store)
    rows = json.loads(local_store.read(report.digest, "rows.json"))
    assert [row["axes"]["points"] for row in rows] == [8, 12]
    assert all(row["ci95_over"] == "planes" for row in rows)
    page = local_store.read(report.digest, "report.html")
    assert page.count(b"<svg") >= 3, "accuracies along the axis, and planes"


def test_forms_have_the_axes_that_mean_something() -> None:
    assert "eps" not in GRIDS["mislabeled"].model_fields
    assert all(
        "position" in field.json_schema_extra
        for form in GRIDS.values()
        for field in form.model_fields.values()
        if isinstance(field.json_schema_extra, dict)
    )


def test_a_grid_on_images_that_a_setting_names_says_so() -> None:
    grid = load_grid("label_noise", ["label_noise=[0.1,0.2]", "seeds=[0]", "data.source=photo-patches"])
    assert title_of("label_noise", grid) == "label_noise · photo-patches · label noise 0.1, 0.2 · 1 seed"
    wanted = points("label_noise", grid)
    assert [point.axes["data"] for point in wanted] == ["photo-patches"] * 2
    assert all(point.experiment.data.source == "photo-patches" for point in wanted)
    assert wanted[0].experiment.target == load_experiment("digits").target
    assert wanted[0].command.startswith("advfeat run digits --set data.source=photo-patches")
    assert Point.model_validate(wanted[0].model_dump(mode="json")).experiment == wanted[0].experiment
    with pytest.raises(InputError, match=r"data: .* names several, and data\.source is set for all"):
        points("label_noise", grid.model_copy(update={"data": ("digits", "mnist")}))
