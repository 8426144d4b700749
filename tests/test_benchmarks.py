"""The benchmark command, tried out small: what it compares does the same work, and its report says so."""

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main


def test_peers_and_engine_reach_the_same_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = "--model cnn --width 8 --image-size 8 --epochs 10 --eps 1.5 --steps 8 --rounds 1"
    assert main(["attacks", "--quick", *asked.split(), "--output", str(tmp_path)]) == 0

    [saved] = tmp_path.glob("*.json")
    figures = json.loads(saved.read_text())["attacks"]["figures"]
    success = {row["name"]: row["success"] for row in figures["rows"]}
    ours = [name for name in success if name.startswith("advfeat")]
    assert len(ours) >= 2
    assert "foolbox" in success
    assert success["foolbox"] > 0.3
    assert all(abs(success[name] - success["foolbox"]) <= 0.02 for name in ours)
    assert all(row["largest_norm"] <= 1.5 * (1 + 1e-6) for row in figures["rows"])
    assert all(row["image_steps_per_second"] > 0 for row in figures["rows"])
    [page] = tmp_path.glob("*.md")
    assert "foolbox" in page.read_text()
    assert "foolbox" in capsys.readouterr().out


def test_impossible_settings_are_refused_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attacks", "--eps", "-1"]) == 2
    assert capsys.readouterr().err == "--eps: '-1': Input should be greater than 0\n"
