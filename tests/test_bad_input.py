"""Bad input: one line that names field, value and remedy, exit code 2, and nothing was started."""

from pathlib import Path
from typing import Any

import pytest

import advfeat
from advfeat.errors import InputError
from advfeat.flows.command_line import cli
from advfeat.flows.given import check_gpus_per_stage
from advfeat.planning import load_experiment
from tests.command import Command

SET = "--set"
CASES = [
    ([SET, "attack.eps=0"], "attack.eps: 0 is not greater than 0"),
    ([SET, "attack.eps=-1"], "attack.eps: -1 is not greater than 0"),
    ([SET, "attack.eps=.nan"], "attack.eps: nan is not finite"),
    ([SET, "attack.steps=0"], "attack.steps: 0 is less than 1"),
    ([SET, "recipes=[d_rnad]"], "recipes: 'd_rnad' is unknown; did you mean d_rand?"),
    ([SET, "recipes=d_rand"], "recipes: 'd_rand' is not a list"),
    ([SET, "data.source=cifra10"], "data.source: 'cifra10' is unknown; did you mean cifar10?"),
    ([SET, "source.model=resnet17"], "source.model: 'resnet17' is unknown; did you mean resnet18?"),
    ([SET, "atack.eps=1"], "atack: {'eps': 1} is given to a field that does not exist; did you mean attack?"),
    ([SET, "attack.epps=1"], "attack.epps: 1 is given to a field that does not exist; did you mean eps?"),
    ([SET, "attack.norm=l0"], "attack.eps: 1.5 is not a whole number of values"),
    (
        [SET, "target.model=vgg16_bn"],
        "target.model: 'vgg16_bn' needs images of 17 pixels a side, these have 8",
    ),
    ([SET, "source.adversarial={eps: 0, steps: 1}"], "source.adversarial.eps: 0 "),
    ([SET, "seeds=[]"], "seeds: [] is empty, give at least one"),
    ([SET, "seeds=[1,1]"], "seeds: [1, 1] names an entry twice"),
    ([SET, "seeds"], "--set: 'seeds' is not an assignment"),
    ([SET, "data.train_size=9999"], "data.train_size: 9999 is more than the 1258 images of digits"),
    (["digit"], "preset: 'digit' is unknown; did you mean digits?"),
    (["absent.yaml"], "file: 'absent.yaml' cannot be read"),
    ([SET, "data.source=folder:absent"], "data.source: 'folder:absent' is not a folder"),
    ([SET, "data.source=folder:."], "data.source: 'folder:.' has fewer than two class folders"),
    ([SET, "data.source=parquet:absent"], "data.source: 'parquet:absent' does not exist"),
    ([SET, "data.source=parquet:cut.parquet"], "data.source: 'parquet:cut.parquet' cannot be read"),
    (["--gpus-per-stage", "0"], "gpus_per_stage: 0.0 is not a share of one GPU"),
    (["--gpus-per-stage", "-0.25"], "gpus_per_stage: -0.25 is not a share of one GPU"),
    (["--gpus-per-stage", "1.5"], "gpus_per_stage: 1.5 is not a share of one GPU"),
    (["--gpus-per-stage", "nan"], "gpus_per_stage: nan is not a share of one GPU"),
    (["--store", "nonsense://x"], "store: 'nonsense://x' is not a usable URI"),
    (["--store", "cut.parquet/store"], "cannot be written"),
    (["--store", "s3://advfeat/x"], "store: 's3://advfeat/x' cannot be written"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES, ids=lambda value: str(value)[:60])
def test_one_clear_line_before_anything_starts(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("sys.argv", ["advfeat", "run", *arguments])
    Path("cut.parquet").write_bytes(b"PAR1 and then nothing")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.Popen.__init__", refuse)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith("advfeat: ")
    assert printed.err.count("\n") == 1, printed.err
    assert message in printed.err
    assert "; " in printed.err, "a remedy follows"


@pytest.mark.parametrize("share", [0, 1.5, True, "0.25"])
def test_a_share_of_a_gpu_that_is_none_is_refused_in_python_and_by_flows_too(share: Any) -> None:
    called = (
        lambda: advfeat.run("digits", gpus_per_stage=share),
        lambda: advfeat.grid("d_rand", gpus_per_stage=share),
        lambda: check_gpus_per_stage(share),
    )
    for call in called:
        with pytest.raises(
            InputError, match=r"gpus_per_stage: .* is not a share .*; give 0\.01 to 1, or leave"
        ):
            call()


def test_a_server_that_does_not_answer(command: Command) -> None:
    command.extra = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    done = command("run")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "advfeat: PREFECT_API_URL: 'http://127.0.0.1:9/api' does not"
    )
    assert command.left_processes(0) == []


def test_files_build_on_presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("preset: mnist\nattack: {eps: 0.75}\nseeds: [4]\n")
    experiment = load_experiment("mine.yaml", ["attack.steps=7"])
    assert experiment.data.source == "mnist"
    assert (experiment.attack.eps, experiment.attack.steps) == (0.75, 7)
    assert experiment.seeds == (4,)
