"""On a GPU: ``ADVFEAT_TEST_GPU=1 .venv/bin/pytest tests/test_gpu.py``. All other tests run on the CPU."""

import json
from dataclasses import replace
from pathlib import Path

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
from advfeat.errors import DeviceFullError
from advfeat.evaluation import predict
from advfeat.hardware import device, true_fp32
from advfeat.models import Normalized, as_pixels, build
from advfeat.planning import load_experiment
from advfeat.spec import Attack, TrainSpec, UntargetedAttack
from advfeat.training import TrainingSet, fit
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
    """A network that takes a tenth of the GPU's memory for each 32 images."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        total = torch.cuda.get_device_properties(images.device).total_memory
        held = torch.empty(total // 320 * len(images), dtype=torch.uint8, device=images.device)
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


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("adversarial", [None, UntargetedAttack(eps=0.5, steps=2, random_start=True)])
def test_an_interrupted_training_ends_with_the_same_weights(
    digits: data.ImageData, precision: str, adversarial: UntargetedAttack | None
) -> None:
    images, labels = (torch.from_numpy(part[:200]) for part in (digits.train.images, digits.train.labels))
    fields = {"precision": precision, "adversarial": adversarial, "augmentation": "flip-crop"}
    spec = TrainSpec.model_validate({"width": 8, "epochs": 4, **fields})
    training, memory = TrainingSet.in_memory(images, labels), Memory(dies_after=2)
    whole = fit(training, spec, classes=10, seed=0).state_dict()
    with pytest.raises(KeyboardInterrupt):
        fit(training, spec, classes=10, seed=0, checkpoint=memory)
    resumed = fit(training, spec, classes=10, seed=0, checkpoint=memory).state_dict()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
