"""Networks of the user's own, of torchvision and of timm: looked at by the plan, and then used as ours."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from advfeat import models
from advfeat.catalogue.catalogue import Catalogue
from advfeat.errors import InputError
from advfeat.extensions import functions
from advfeat.models.own import settled_name
from advfeat.planning import Plan, build_plan, load_experiment
from advfeat.spec import TrainSpec
from advfeat.stages.model import _model
from advfeat.storage import Store
from advfeat.storage.runs import keep_plan, plan_path, planned_stages
from advfeat.training import TrainingSet, fit
from tests.inline import compute, compute_all
from tests.test_training import Memory

NETWORK = """
import torch
from torch import nn

def make(channels, classes, width=4):
    first = nn.Conv2d(channels, width, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(64 * width, classes))

def of_any_size(*, channels, classes, image_shape):
    return nn.Sequential(nn.Conv2d(channels, classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def of_everything(**given):
    assert given["image_shape"] == (given["channels"], 8, 8)
    return make(given["channels"], given["classes"], given["width"])
"""
SMALL = (
    *("recipes=[d_rand]", "seeds=[0]", "data.train_size=64", "data.test_size=40", "shards=1"),
    *("source.epochs=1", "target.epochs=1", "attack.steps=1"),
)


@pytest.fixture(autouse=True)
def _unprovided() -> Iterator[None]:
    """Each test begins as a process that knows no function."""
    functions._PROVIDED.clear()
    yield
    functions._PROVIDED.clear()


def written(folder: Path, text: str = NETWORK, name: str = "net.py") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


def plan(*assignments: str) -> Plan:
    return build_plan(load_experiment("digits", [*SMALL, *assignments]))


def digests(made: Plan) -> list[str]:
    return [stage.digest for stage in made.stages]


@pytest.mark.parametrize("function", ["make", "of_any_size", "of_everything"])
def test_a_function_in_a_file_builds_a_network_like_ours(tmp_path: Path, function: str) -> None:
    name = f"{written(tmp_path)}:{function}"
    model = models.build(name, width=6, image_shape=(1, 8, 8), classes=3).eval()
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 3)
    if function != "of_any_size":
        assert model.state_dict()["network.0.weight"].shape == (6, 1, 3, 3)


def test_digests_hold_the_content_of_a_file_and_not_its_place(tmp_path: Path) -> None:
    here, there = (f"target.model={written(tmp_path / name)}:make" for name in ("here", "there"))
    changed = f"target.model={written(tmp_path / 'changed', NETWORK.replace('0.2', '0.3'))}:make"
    assert digests(plan(here)) == digests(plan(there))
    assert len({*digests(plan(here)), *digests(plan(changed))}) > len(digests(plan(here)))
    only = plan(
        "recipes=[d_rand,clean]", f"only={{d_rand: {{target: {{model: {tmp_path}/here/net.py:make}}}}}}"
    )
    (name,) = {
        stage.parameters["training"]["model"]
        for stage in only.stages
        if stage.title == "target model d_rand, seed 0"
    }
    assert name == settled_name("model", f"{tmp_path}/there/net.py:make")


def test_a_network_may_be_made_for_the_classes_of_its_data_alone(tmp_path: Path) -> None:
    text = "from torch import nn\ndef make(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))"
    name = f"{written(tmp_path, text)}:make"
    assert plan("data.source=photo-patches", f"source.model={name}", f"target.model={name}").stages
    with pytest.raises(InputError, match=r"target.model: .* returns \(4, 2\)"):
        plan(f"target.model={name}")  # the digits have ten


def test_a_name_with_its_version_means_that_file(tmp_path: Path) -> None:
    path = written(tmp_path)
    name = settled_name("model", f"{path}:make")
    functions._PROVIDED.clear()
    digits = name.partition("@")[2]
    assert settled_name("model", f"{path}:make@{digits}") == name
    path.write_text(f"{NETWORK}\n")
    functions._PROVIDED.clear()
    with pytest.raises(InputError, match="has other content now"):
        plan(f"target.model={path}:make@{digits}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", r"has no function make; it has none"),
        ("def other(): ...", r"has no function make; there are other"),
        ("make = 3", r"has no function make"),
        ("def make(:\n  pass", r"cannot be run: SyntaxError: .*, line 1\); correct it"),
        ("import not_there_at_all", r"ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("def make(channels):\n  return 1 / 0", r"fails: ZeroDivisionError: .* \(net.py, line 2\)"),
        ("def make(channels, depth): ...", r"missing 1 required positional argument: 'depth'"),
        ("def make(): ...", r"returns NoneType; return a torch.nn.Module"),
        ("{nn}\ndef make(): return nn.Flatten()", r"has no weights to train"),
        (
            "{nn}\ndef make(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))",
            r"returns \(4, 7\) torch.float32",
        ),
        ("{nn}\ndef make(): return nn.Linear(3, 10)", r"fails on images of 1 x 8 x 8: RuntimeError"),
        (
            "{nn}\ndef make(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1))",
            "probabilities",
        ),
        (
            "{nn}\nimport random\ndef make():\n  net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
            "  net[1].bias.data.fill_(random.random())\n  return net",
            "starts with other weights each time",
        ),
        (
            "{nn}\nclass Net(nn.Module):\n  def __init__(self):\n    super().__init__()\n"
            "    self.a = nn.Linear(64, 10)\n"
            "  def forward(self, x): return self.a(x.flatten(1).detach().round())\nmake = Net",
            "passes no gradient on",
        ),
        (
            "{nn}\nclass Net(nn.Module):\n  def __init__(self):\n    super().__init__()\n"
            "    self.a = nn.Linear(64, 10)\n"
            "  def forward(self, x): return {{'logits': self.a(x.flatten(1))}}\nmake = Net",
            "returns dict; return a tensor of logits",
        ),
        (
            "{nn}\nimport torch\nclass Net(nn.Module):\n  def __init__(self):\n    super().__init__()\n"
            "    self.a = nn.Linear(64, 10)\n"
            "  def forward(self, x): return self.a(x.flatten(1) + torch.rand(64))\nmake = Net",
            "other logits each time in evaluation mode",
        ),
    ],
)
def test_what_cannot_be_used_is_told_by_the_plan(tmp_path: Path, text: str, problem: str) -> None:
    path = written(
        tmp_path, text.replace("{{", "{").replace("}}", "}").replace("{nn}", "from torch import nn")
    )
    with pytest.raises(InputError, match=problem) as refused:
        plan(f"target.model={path}:make")
    assert str(refused.value).startswith("target.model: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("resnet81", "did you mean resnet18"),
        ("nowhere.py:make", "cannot be read"),
        ("no.such.module:make", "cannot be imported|is not an installed module"),
        ("torchvision:resnet19", "is not a network of torchvision"),
        ("torchvision:resnet34@0.1", "is of another torchvision"),
        ("timm:resnet19", "is not a network of timm"),
        ("timm:vit_tiny_patch16_224", "fails on images of 1 x 8 x 8|cannot be built"),
    ],
)
def test_names_of_nothing_are_refused(name: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as refused:
        plan(f"source.model={name}")
    assert str(refused.value).startswith("source.model: ")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("torchvision:squeezenet1_1", (1, 28, 28)),
        ("torchvision:shufflenet_v2_x0_5", (3, 32, 32)),
        ("torchvision:mnasnet0_5", (4, 32, 32)),
        ("timm:test_resnet", (1, 28, 28)),
        ("timm:test_vit", (3, 32, 32)),
    ],
)
def test_libraries_build_networks_for_the_images(name: str, shape: tuple[int, ...]) -> None:
    model = models.build(name, width=32, image_shape=shape, classes=7).eval()
    assert model(torch.rand(2, *shape)).shape == (2, 7)
    settled = settled_name("model", name)
    described: dict[str, Any] = {"name": settled, "width": 32, "image_shape": shape, "classes": 7}
    again = models.from_bytes(models.to_bytes(model, described))
    images = torch.rand(2, *shape)
    assert torch.equal(again(images), model(images))


def test_what_draws_in_training_draws_the_same_again_and_after_an_interruption(tmp_path: Path) -> None:
    name = settled_name("model", f"{written(tmp_path)}:make")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 1, 8, 8), generator=generator, dtype=torch.uint8)
    data = TrainingSet.in_memory(images, torch.arange(64) % 3)
    spec = TrainSpec(model=name, epochs=3, batch_size=16)
    before = torch.get_rng_state()
    whole = fit(data, spec, classes=3, seed=0).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)  # as something else in the process would
    checkpoint = Memory(dies_after=2)
    with pytest.raises(KeyboardInterrupt):
        fit(data, spec, classes=3, seed=0, checkpoint=checkpoint)
    resumed = fit(data, spec, classes=3, seed=0, checkpoint=checkpoint).state_dict()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert not torch.equal(
        whole["network.0.weight"], fit(data, spec, classes=3, seed=1).state_dict()["network.0.weight"]
    )


@pytest.mark.slow
def test_a_run_needs_no_file_but_at_its_plan_and_no_code_is_read_from_a_store(
    tmp_path: Path, local_store: Store
) -> None:
    path = written(tmp_path)
    made = plan(f"source.model={path}:make", f"target.model={path}:of_any_size")
    path.unlink()
    first, *others = made.stages
    compute(first, local_store)
    for_another_process = tmp_path / "stage.json"
    for_another_process.write_text(others[0].model_dump_json())
    program = (
        "import sys; from advfeat.stages.inline import compute; from advfeat.storage import Stage, Store;"
        "compute(Stage.model_validate_json(open(sys.argv[1]).read()), Store(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", program, for_another_process, local_store.uri], check=True)
    compute_all(made, local_store)
    (row,) = local_store.read(made.report.digest, "rows.json").decode().split('"source_model": ')[1:]
    assert row.startswith('"net.py:make@')

    keep_plan(local_store, "run", made.stages)
    assert all(stage.code for stage in made.stages[:-1])
    assert "def make" not in Path(plan_path(local_store, "run")).read_text()
    assert not any(stage.code for stage in planned_stages(local_store).values())
    functions._PROVIDED.clear()
    _model.cache_clear()
    catalogue = Catalogue(local_store)
    with pytest.raises(InputError, match="is not available here"):
        catalogue.load(others[0].digest)
    loaded = catalogue.load(others[0].digest, network=f"{written(tmp_path / 'again')}:make")
    assert loaded(torch.rand(2, 1, 8, 8)).shape == (2, 10)  # type: ignore[operator]
