"""On a GPU: ``ADVFEAT_TEST_GPU=1 .venv/bin/pytest tests/test_gpu.py``. All other tests run on the CPU."""

import pytest
import torch
from torch import Tensor

from advfeat import data
from advfeat.attacks import REFERENCE, Engine, perturb
from advfeat.datasets.predictions import source_predictions
from advfeat.evaluation import predict
from advfeat.hardware import device
from advfeat.models import Normalized, as_pixels
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


def test_predictions_of_a_source_model_are_those_of_fp32(attacked: Attacked, digits: data.ImageData) -> None:
    model, images = attacked[0], as_pixels(torch.from_numpy(digits.train.images))
    assert (source_predictions(model, images) == predict(model, images)).all()


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
