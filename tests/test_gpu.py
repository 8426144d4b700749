"""On a GPU: ``ADVFEAT_TEST_GPU=1 .venv/bin/pytest tests/test_gpu.py``. All other tests run on the CPU."""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from advfeat import data
from advfeat.attacks import REFERENCE, Engine, perturb
from advfeat.attacks.engine import convolutions_for
from advfeat.attacks.fused_convolutions import CONVOLUTION_RELU
from advfeat.attacks.pgd import attack_step
from advfeat.attacks.step_candidates import CANDIDATES, try_candidate
from advfeat.attacks.step_graph import Example, Step
from advfeat.datasets.predictions import source_predictions
from advfeat.errors import DeviceFullError
from advfeat.evaluation import predict
from advfeat.hardware import device, true_fp32
from advfeat.models import Normalized, as_pixels, build
from advfeat.planning import load_experiment
from advfeat.spec import Attack, TrainSpec, UntargetedAttack
from advfeat.training import TrainingSet, fit, fitting
from advfeat.training.cuda_graph import record
from tests.test_training import Memory

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU, or ADVFEAT_TEST_GPU is not set"
)

ENGINES = {
    "folded": Engine(optimized=True, tile=64),
    "bf16": Engine("bf16", optimized=True, tile=64),
    "compiled": Engine("bf16", optimized=True, compiled=True, tile=64),
}
FORMS = tuple(CANDIDATES)
Attacked = tuple[Normalized, Tensor, Tensor]


@pytest.fixture(scope="module")
def digits() -> data.ImageData:
    pytest.importorskip("sklearn", reason="it has the images")
    pytest.importorskip("yaml", reason="the preset is YAML")
    return data.load(load_experiment("digits").data)


@pytest.fixture(scope="module")
def attacked(digits: data.ImageData) -> Attacked:
    """A model on the GPU, images on the CPU and the targets they are moved towards."""
    spec = load_experiment("digits").source
    images, labels = torch.from_numpy(digits.train.images), torch.from_numpy(digits.train.labels)
    model = fit(TrainingSet.in_memory(images, labels), spec, classes=10, seed=0)
    pixels = as_pixels(torch.from_numpy(digits.test.images[:200]))
    return model, pixels, (torch.from_numpy(digits.test.labels[:200]) + 1) % 10


def success(attacked: Attacked, found: Tensor) -> float:
    model, images, aims = attacked
    assert found.device == images.device
    assert (found.double() - images.double()).flatten(1).norm(dim=1).max() <= 1
    return float((predict(model, found) == aims.numpy()).mean())


def test_a_model_is_trained_on_this_threads_gpu(attacked: Attacked) -> None:
    assert next(attacked[0].parameters()).device == device()
    assert device().index is not None


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES.keys())
def test_fast_paths_are_as_strong_as_the_reference(attacked: Attacked, engine: Engine) -> None:
    attack = Attack(eps=1.0, steps=12)
    reference = success(attacked, perturb(*attacked, attack, engine=REFERENCE))
    assert 0.3 < reference < 0.9
    assert abs(success(attacked, perturb(*attacked, attack, engine=engine)) - reference) <= 0.01


def test_predictions_of_a_source_model_are_those_of_fp32(attacked: Attacked, digits: data.ImageData) -> None:
    model, images = attacked[0], as_pixels(torch.from_numpy(digits.train.images))
    assert (source_predictions(model, images) == predict(model, images)).all()


@pytest.fixture(scope="module")
def resnet_step() -> tuple[Step, Example]:
    """A step of a ResNet-18 in bf16, as data sets of CIFAR-10 are made with."""
    torch.manual_seed(0)
    model = build("resnet18", width=64, image_shape=(3, 32, 32), classes=10).to(device())
    images = torch.rand(256, 3, 32, 32, device=device()).contiguous(memory_format=torch.channels_last)
    example = images, torch.zeros_like(images), torch.arange(256, device=device()) % 10
    return attack_step(Engine("bf16", optimized=True).prepare(model), Attack(eps=0.5, steps=1)), example


@pytest.mark.parametrize("name", [form for form in FORMS if form != "autotuned"])
def test_every_form_of_the_step_is_compiled_and_leads_where_the_step_does(
    resnet_step: tuple[Step, Example], name: str
) -> None:
    step, example = resnet_step
    with torch.no_grad(), true_fp32(), convolutions_for(ENGINES["compiled"], device()):
        timed, _ = try_candidate(name, step, example)
    assert not timed.problem
    assert timed.image_steps_per_second > 0


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("adds", [False, True], ids=["bias", "bias and residual"])
def test_fused_convolutions_compute_what_they_say(stride: int, adds: bool) -> None:
    """On memory that holds NaN, which a kernel that reads its result's old values would show."""
    generator = torch.Generator(device()).manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        values = torch.randn(shape, generator=generator, device=device()).to(torch.bfloat16)
        return values.to(memory_format=torch.channels_last) if values.ndim == 4 else values

    images, weight, bias = drawn(64, 32, 16, 16), drawn(64, 32, 3, 3) / 17, drawn(64)
    residual = drawn(64, 64, 16 // stride, 16 // stride) if adds else None
    settings = [stride] * 2, [1, 1], [1, 1], 1
    with true_fp32(), convolutions_for(ENGINES["compiled"], device()):
        torch.full((1 << 26,), torch.nan, device=device())
        found = CONVOLUTION_RELU(images, weight, bias, residual, *settings)
        wanted = torch.nn.functional.conv2d(images.float(), weight.float(), bias.float(), *settings)
        wanted = (wanted if residual is None else wanted + residual.float()).relu()
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found.float() - wanted).abs().max() <= 0.1


def test_the_chosen_form_is_as_strong_as_the_reference(
    attacked: Attacked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    attack, engine = Attack(eps=1.0, steps=12), replace(ENGINES["compiled"], tile=32)
    reference = success(attacked, perturb(*attacked, attack, engine=REFERENCE))
    choosing = replace(engine, seconds_to_choose=20.0, largest_tile=128)
    assert abs(success(attacked, perturb(*attacked, attack, engine=choosing)) - reference) <= 0.01
    (note,) = tmp_path.glob("advfeat/*.json")
    assert {"inductor", "fused relus"} <= {
        each["name"] for each in json.loads(note.read_text(encoding="utf-8"))
    }


class Greedy(torch.nn.Module):
    """A network that takes a tenth of the GPU's free memory for each 32 images."""

    def __init__(self) -> None:
        super().__init__()
        torch.cuda.empty_cache()
        self.free = torch.cuda.mem_get_info(device())[0]
        self.layer = torch.nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        held = torch.empty(self.free // 320 * len(images), dtype=torch.uint8, device=images.device)
        logits: Tensor = self.layer(images.flatten(1)) + 0 * held[:1]
        return logits


def test_a_tile_that_does_not_fit_is_halved_until_it_does() -> None:
    torch.manual_seed(0)
    model, images, aims = Greedy().to(device()), torch.rand(600, 1, 8, 8), torch.arange(600) % 10
    attack = Attack(eps=1, steps=3)
    with pytest.warns(UserWarning, match=r"tiles of 512 images do not fit the memory of the .* GiB free"):
        found = perturb(model, images, aims, attack, engine=Engine(tile=512))
    assert torch.allclose(found, perturb(model, images, aims, attack, engine=Engine(tile=64)), atol=1e-5)
    with pytest.raises(DeviceFullError, match=r"tiles of 4,096, 2,048, 1,024 images"):
        perturb(model, images, aims, attack, engine=Engine(tile=4096))


def test_fp32_shows_neither_cuts_nor_where_the_images_lie(attacked: Attacked) -> None:
    model, images, aims = attacked
    attack = Attack(eps=0.8, steps=6, random_start=True, restarts=1, precision="fp32")
    engine = Engine(tile=64)
    whole = perturb(model, images, aims, attack, seed=3, engine=engine)
    pieces = [
        perturb(model, images[part], aims[part], attack, seed=3, rows=range(200)[part], engine=engine)
        for part in (slice(0, 1), slice(1, 40), slice(40, 200))
    ]
    assert torch.equal(torch.cat(pieces), whole)
    there = perturb(model, images.to(device()), aims.to(device()), attack, seed=3, engine=engine)
    assert torch.equal(there.cpu(), whole)


Kernels = Callable[[], None]


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Replay however short a training is; how often is counted, for each recording."""
    counts: list[int] = []

    def counted(kernels: Kernels) -> Kernels:
        launch, number = record(kernels), len(counts)
        counts.append(0)

        def again() -> None:
            counts[number] += 1
            launch()

        return again

    monkeypatch.setattr(fitting, "REPLAYING_PAYS_FROM_STEPS", 1)
    monkeypatch.setattr(fitting, "record", counted)
    yield counts
    counts.clear()


@contextmanager
def launched_one_by_one() -> Iterator[None]:
    """Train by launching kernel by kernel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "REPLAYING_PAYS_FROM_STEPS", float("inf"))
        yield


def weights_of(training: TrainingSet, spec: TrainSpec, **more: Any) -> dict[str, Tensor]:
    return dict(fit(training, spec, classes=10, seed=0, **more).state_dict())


def few(digits: data.ImageData) -> TrainingSet:
    """Three whole batches of 64, and one of 8."""
    return TrainingSet.in_memory(
        *(torch.from_numpy(part[:200]) for part in (digits.train.images, digits.train.labels))
    )


@pytest.mark.parametrize("replayed", [False, True], ids=["launched", "replayed"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("adversarial", [None, UntargetedAttack(eps=0.5, steps=2, random_start=True)])
def test_an_interrupted_training_ends_with_the_same_weights(
    digits: data.ImageData,
    precision: str,
    adversarial: UntargetedAttack | None,
    replayed: bool,
    replays: list[int],
) -> None:
    fields = {"precision": precision, "adversarial": adversarial, "augmentation": "flip-crop"}
    spec = TrainSpec.model_validate({"width": 8, "epochs": 4, "ema_decay": 0.9, **fields})
    training, memory = few(digits), Memory(dies_after=2)
    with nullcontext() if replayed else launched_one_by_one():
        whole = weights_of(training, spec)
        with pytest.raises(KeyboardInterrupt):
            weights_of(training, spec, checkpoint=memory)
        resumed = weights_of(training, spec, checkpoint=memory)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    compared = 3
    steps = [4 * 3 - 1, 2 * 3 - 1, 2 * 3]  # of all but the very first
    assert replays == ([compared + each for each in steps] if replayed else [])


TRAINED: dict[str, dict[str, Any]] = {
    "cnn": {"width": 8},
    "bf16, averaged, smoothed": {"width": 8, "precision": "bf16", "ema_decay": 0.9, "label_smoothing": 0.1},
    "resnet18": {"model": "resnet18", "learning_rate": 0.01},
    "mlp without momentum": {"model": "mlp", "width": 8, "momentum": 0},
}


@pytest.mark.parametrize("fields", TRAINED.values(), ids=TRAINED.keys())
@pytest.mark.parametrize("soft", [False, True])
def test_replayed_steps_teach_what_launched_ones_do(
    digits: data.ImageData, fields: dict[str, Any], soft: bool, replays: list[int]
) -> None:
    images, labels = (torch.from_numpy(part[:200]) for part in (digits.train.images, digits.train.labels))
    labels = torch.nn.functional.one_hot(labels, 10) * 0.9 + 0.01 if soft else labels
    training = TrainingSet.in_memory(images, labels)
    spec = TrainSpec.model_validate({"epochs": 2, "augmentation": "flip-crop", "precision": "fp32", **fields})
    launched: list[float] = []
    replayed: list[float] = []
    with launched_one_by_one():
        wanted = weights_of(training, spec, losses=launched)
    found = weights_of(training, spec, losses=replayed)
    assert replays == [3 + 2 * 3 - 1]
    assert replayed == pytest.approx(launched, rel=0.02)
    apart = sum(float((found[name].double() - wanted[name].double()).square().sum()) for name in wanted)
    length = sum(float(wanted[name].double().square().sum()) for name in wanted)
    assert apart <= 1e-4 * length


OWN_NETWORKS = {
    "dropout": ("functional.dropout(logits, 0.3, self.training)", None),
    "a number that Python asks for": (
        "functional.dropout(logits, min(0.3, abs(logits.mean().item())))",
        "Error",
    ),
    "a counter": ("self.counted(logits)", "its forward sets network.calls"),
    "Python's random numbers": ("logits * (1 + random.random() / 10)", "draws random numbers on the CPU"),
}


@pytest.mark.parametrize(("returned", "problem"), OWN_NETWORKS.values(), ids=OWN_NETWORKS.keys())
def test_own_networks_are_replayed_or_it_is_said_why_not(
    tmp_path: Path, returned: str, problem: str | None, replays: list[int]
) -> None:
    (tmp_path / "net.py").write_text(
        "import random\nimport torch\nfrom torch.nn import functional\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, classes):\n"
        "        super().__init__()\n"
        "        self.linear, self.calls = torch.nn.Linear(64, classes), 0\n"
        "    def counted(self, logits):\n"
        "        self.calls += 1\n"
        "        return logits / self.calls\n"
        "    def forward(self, images):\n"
        "        logits = self.linear(images.flatten(1))\n"
        f"        return {returned} if self.training else logits\n"
        "def make(classes):\n"
        "    return Net(classes)\n"
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(200, 1, 8, 8, generator=generator)
    training = TrainingSet.in_memory(images, torch.arange(200) % 10)
    spec = TrainSpec(model=f"{tmp_path}/net.py:make", epochs=3, precision="fp32")
    random.seed(0)
    with launched_one_by_one():
        wanted = weights_of(training, spec)
    random.seed(0)
    if problem is None:
        found = weights_of(training, spec)
        assert replays == [3 + 3 * 3 - 1]
        assert all(torch.allclose(found[name], wanted[name], rtol=1e-3, atol=1e-5) for name in wanted)
        return
    with pytest.warns(UserWarning, match=f"training steps are launched kernel by kernel .*{problem}"):
        found = weights_of(training, spec)
    assert sum(replays) == 0
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("batch_size", [128, 256, 512])
def test_replayed_steps_are_no_slower(batch_size: int) -> None:
    """Prints images/s of ResNet-18, with flips and shifts, after the first epoch."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (100 * batch_size, 3, 32, 32), dtype=torch.uint8, generator=generator)
    training = TrainingSet.in_memory(images, torch.arange(len(images)) % 10)
    spec = TrainSpec(model="resnet18", epochs=3, batch_size=batch_size, augmentation="flip-crop")
    rates = {}
    for name in ("launched", "replayed"):
        begun: list[float] = []

        def first_of_the_second_epoch(seen: int, _: int, begun: list[float] = begun) -> None:
            if seen == len(training) + batch_size:
                begun.append(time.perf_counter())

        with launched_one_by_one() if name == "launched" else nullcontext():
            weights_of(training, spec, progress=first_of_the_second_epoch)
        torch.cuda.synchronize()
        rates[name] = (2 * len(training) - batch_size) / (time.perf_counter() - begun[0])
    print(f"batch {batch_size}: " + ", ".join(f"{name} {rate:,.0f} images/s" for name, rate in rates.items()))
    assert rates["replayed"] >= 0.95 * rates["launched"]
