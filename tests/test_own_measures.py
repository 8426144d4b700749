"""Figures of the user's own: columns of the report, and tried before anything is computed."""

import json
from pathlib import Path

import pandas as pd
import pytest

from advfeat.errors import InputError
from advfeat.planning import Plan, build_plan, load_experiment
from advfeat.report.frame import rows_frame
from advfeat.report.rows import read_rows
from advfeat.storage import Store
from tests.inline import compute_all

FILE = """
import torch

def confidence(target_model, images):
    return {"mean confidence": target_model(images).softmax(1).amax(1).mean()}

def mine(target_model, source_model, images, labels):
    right = target_model(images).argmax(1) == labels
    of_source = (source_model or target_model)(images).argmax(1) == labels
    with torch.no_grad():
        for weights in target_model.parameters():
            weights.zero_()  # which is nobody else's
    return {"right": right.float().mean(), "source is right": of_source.float().mean()}

def test_accuracy(target_model):
    return {"test_accuracy": 0.5}

def nothing(target_model):
    return {}

def text(target_model):
    return {"word": "many"}

def infinite(target_model):
    return {"ratio": float("inf")}

def pipe(target_model):
    return {"a|b": 1}

def broken(target_model, labels):
    return {"first": labels[10 ** 6]}

def again(target_model):
    return {"mean confidence": 1.0}
"""
SMALL = (
    *("recipes=[clean, d_rand]", "seeds=[0,1]", "data.train_size=64", "data.test_size=40", "shards=1"),
    *("source.epochs=1", "source.width=4", "target.epochs=1", "target.width=4", "attack.steps=1"),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "figures.py"
    file.write_text(FILE)
    return file


def planned(*assignments: str) -> Plan:
    return build_plan(load_experiment("digits", [*SMALL, *assignments]))


def test_figures_are_columns_of_the_report(path: Path, local_store: Store) -> None:
    names = ", ".join(f'"{path}:{name}"' for name in ("mine", "confidence", "test_accuracy"))
    plan = planned(f"evaluation.measures=[{names}]")
    compute_all(plan, local_store)
    rows = read_rows(local_store, plan.report.digest)
    for row in rows:
        assert row.measures["right"] == pytest.approx(row.test_accuracy)
        assert 0.101 < row.measures["mean confidence"] < 1, "of a network that nobody has changed"
    # Beside a source that others share, clean has one to be compared with too.
    assert rows[1].measures["source is right"] == pytest.approx(rows[1].source_accuracy)
    frame = rows_frame(rows)
    assert frame["right"].tolist() == pytest.approx(frame["test_accuracy"].tolist())
    assert frame["measures.test_accuracy"].tolist() == [0.5, 0.5]
    page = local_store.read(plan.report.digest, "report.html").decode()
    text = local_store.read(plan.report.digest, "report.md").decode()
    assert "<th>mean confidence</th>" in page
    assert "| mean confidence |" in text
    (parquet,) = Path(local_store.artifact_uri(plan.report.digest)).glob("rows*.parquet")
    assert "measures.right" in pd.read_parquet(parquet)


def test_only_evaluations_are_computed_again(path: Path, local_store: Store) -> None:
    without = {stage.digest for stage in planned().stages}
    plan = planned(f"evaluation.measures=['{path}:confidence']")
    new = [stage for stage in plan.stages if stage.digest not in without]
    assert {stage.kind for stage in new} == {"evaluation", "report"}
    (parameter,) = {json.dumps(stage.parameters["measures"]) for stage in new if stage.kind == "evaluation"}
    assert parameter.startswith('["figures.py:confidence@')
    assert all(stage.code for stage in new if stage.kind == "evaluation")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["nothing"], "returns dict; return a dict: names and their numbers"),
        (["text"], "returns word as str; return a number"),
        (["infinite"], "returns ratio as inf"),
        (["pipe"], r"returns a figure named 'a\|b'"),
        (["broken"], r"fails: IndexError: .* \(figures.py, line 31\)"),
        (["confidence", "again"], "returns 'mean confidence', as another does"),
        (["nowhere"], "has no function nowhere"),
    ],
)
def test_what_is_no_figure_is_refused_by_the_plan(names: list[str], told: str, path: Path) -> None:
    measures = [f"{path}:{name}" for name in names]
    with pytest.raises(InputError, match=rf"^evaluation\.measures: .*{told}") as refused:
        planned(f"evaluation.measures={json.dumps(measures)}")
    assert "\n" not in str(refused.value)


def test_a_name_of_no_function_is_refused() -> None:
    with pytest.raises(InputError, match=r"evaluation\.measures: .*'accuracy' names no function"):
        planned("evaluation.measures=[accuracy]")
