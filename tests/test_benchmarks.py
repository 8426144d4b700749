"""The benchmark command, tried out small: what it compares does the same work, and its report says so."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from advfeat.planning import load_experiment
from benchmarks import job, schedules
from benchmarks.__main__ import main


@pytest.mark.slow
def test_peers_and_engine_reach_the_same_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = "--model cnn --width 8 --image-size 8 --epochs 10 --eps 1.5 --steps 8 --rounds 1"
    assert main(["attacks", "--quick", *asked.split(), "--output", str(tmp_path)]) == 0

    [saved] = tmp_path.glob("*.json")
    figures = json.loads(saved.read_text())["attacks"]["figures"]
    peak, flops = figures["peaks"]["flops_per_second"]["fp32"], figures["flops_per_image_step"]
    success = {row["name"]: row["success"] for row in figures["rows"]}
    ours = [name for name in success if name.startswith("advfeat")]
    assert len(ours) >= 2
    assert "foolbox" in success
    assert success["foolbox"] > 0.3
    assert all(abs(success[name] - success["foolbox"]) <= 0.02 for name in ours)
    assert all(row["largest_norm"] <= 1.5 * (1 + 1e-6) for row in figures["rows"])
    assert all(row["image_steps_per_second"] > 0 for row in figures["rows"])
    for row in figures["rows"]:
        assert row["shares_of_peak"]["fp32"] == pytest.approx(row["image_steps_per_second"] * flops / peak)
    [page] = tmp_path.glob("*.md")
    assert "foolbox" in page.read_text()
    assert "foolbox" in capsys.readouterr().out


def test_advfeat_is_measured_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = "--model cnn --width 8 --image-size 8 --epochs 1 --attacked 50 --steps 2 --rounds 1"
    asked = ["attacks", "--quick", "--candidates", "advfeat", *small.split(), "--output", str(tmp_path)]
    assert main(asked) == 0
    [saved] = tmp_path.glob("*.json")
    figures = json.loads(saved.read_text())["attacks"]["figures"]
    assert [row["name"] for row in figures["rows"]] == ["advfeat (auto)"]
    assert figures["attacked_images"] == 50
    assert figures["absent"] == {}
    assert "a call, s" in capsys.readouterr().out


def test_the_main_job_is_timed_as_a_user_types_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command itself is tested elsewhere: here, that it is one of two recipes and one seed."""
    typed: list[Sequence[str]] = []
    monkeypatch.setattr(job, "advfeat", lambda words, _: typed.append(words))
    assert main(["job", "--changes", "source.epochs=2,attack.steps=7", "--output", str(tmp_path)]) == 0
    [[verb, preset, *assignments]] = typed
    assert verb == "run"
    experiment = load_experiment(preset, [word for word in assignments if word != "--set"])
    assert experiment.recipes == ("d_rand", "d_det")
    assert experiment.seeds == (0,)
    assert (experiment.source.epochs, experiment.attack.steps) == (2, 7)
    [page] = tmp_path.glob("*.md")
    assert "## D_rand and D_det of digits, one seed" in page.read_text()


def test_schedules_are_compared_by_success_and_optimality() -> None:
    best, none = np.array([0.0, 0.5, 1.0, np.inf]), np.array([0.0, np.inf, np.inf, np.inf])
    assert schedules.optimality(best, best, [0.5, 1.0]) == 1
    assert schedules.optimality(none, best, [0.5, 1.0]) == 0
    settings = schedules.Settings(radii=(1.0, 2.0), step_counts=(4,), attacked=16, epochs=3, seeds=(0,))
    said: list[str] = []
    rows = {row[0]: row[1] for row in schedules.measured(settings, say=said.append).rows}
    assert {"constant", "cosine", "apgd"} <= rows.keys()
    assert "seed 0, 4 steps: apgd" in said
    assert all(float(cell.rpartition(" ")[2]) <= 1 for cell in rows.values())


def test_impossible_settings_are_refused_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attacks", "--eps", "-1"]) == 2
    assert capsys.readouterr().err == "--eps: '-1': Input should be greater than 0\n"
