"""A network that refuses many images at once, as one does whose activations fill a GPU's memory."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from advfeat.attacks import Engine, perturb, pgd
from advfeat.errors import DeviceFullError
from advfeat.models.predictions import logits
from advfeat.planning import build_plan, load_experiment
from advfeat.spec import Attack
from advfeat.storage import Store
from tests.inline import compute_all


class Small(torch.nn.Module):
    """A network whose device holds ``most`` images at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 3)
        )
        self.most = most

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nand much more")
        logits: Tensor = self.layers(images)
        return logits


@pytest.fixture(autouse=True)
def nothing_was_found_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pgd, "_FITTING", {})


def given() -> tuple[Tensor, Tensor]:
    images = torch.rand(150, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return images, torch.arange(150) % 3


def network(most: int) -> Small:
    torch.manual_seed(0)
    return Small(most)


@pytest.mark.parametrize(
    "attack",
    [
        Attack(eps=1, steps=3, random_start=True, restarts=1),
        Attack(eps=1, steps=25, stop_confidence=0.9),
        Attack(eps=1, steps=10, schedule="apgd"),
    ],
    ids=["restarts", "early stop", "schedule"],
)
def test_a_tile_that_does_not_fit_is_halved(attack: Attack) -> None:
    told: list[tuple[int, int]] = []
    whole = perturb(network(1000), *given(), attack, engine=Engine(tile=128))
    with pytest.warns(UserWarning, match="tiles of 128 images do not fit.* goes on with 64"):
        halved = perturb(
            network(40),
            *given(),
            attack,
            engine=Engine(tile=128),
            progress=lambda done, count: told.append((done, count)),
        )
    assert torch.equal(halved, whole)
    assert max(told) <= (150, 150)
    with warnings.catch_warnings(action="error"):  # the next shard begins with what fits
        assert torch.equal(perturb(network(40), *given(), attack, engine=Engine(tile=128)), whole)


def test_a_tile_is_halved_twice_and_no_more() -> None:
    expected = (
        r"^attack: tiles of 96, 48, 24 images of shape \(1, 8, 8\) do not fit the memory of the CPU; "
        r"end what else .*\(CUDA out of memory. Tried to allocate 2.00 GiB.\)$"
    )
    with (
        pytest.warns(UserWarning, match="goes on with 24"),
        pytest.raises(DeviceFullError, match=expected),
    ):
        perturb(network(16), *given(), Attack(eps=1, steps=1), engine=Engine(tile=96))


def test_predictions_are_made_of_as_many_images_as_fit() -> None:
    images, _ = given()
    assert torch.allclose(logits(network(40), images), logits(network(1000), images), atol=1e-6)
    with pytest.raises(DeviceFullError, match=r"^predictions: 32 images of shape \(1, 8, 8\) do not fit"):
        logits(network(16), images)


@pytest.mark.slow
def test_a_step_is_compiled_for_the_tile_that_fits() -> None:
    engine = Engine(optimized=True, compiled=True, tile=32)
    attack = Attack(eps=1, steps=3)
    whole = perturb(network(1000), *given(), attack, engine=Engine(tile=32))
    with pytest.warns(UserWarning, match="goes on with 16"):
        halved = perturb(network(16), *given(), attack, engine=engine)
    assert torch.allclose(halved, whole, atol=1e-4)


TIGHT = """
import torch

class Tight(torch.nn.Linear):
    def forward(self, images):
        if len(images) > 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(images.flatten(1))

def tight(channels, classes):
    return Tight(64 * channels, classes)
"""


def test_a_training_whose_batch_does_not_fit_names_it(tmp_path: Path) -> None:
    file = tmp_path / "tight.py"
    file.write_text(TIGHT)
    small = (
        "recipes=[clean]",
        "seeds=[0]",
        "data.train_size=64",
        "data.test_size=40",
        "target.batch_size=64",
    )
    plan = build_plan(load_experiment("digits", [*small, f"target.model={file}:tight"]))
    store = Store(str(tmp_path / "store"))
    with pytest.raises(DeviceFullError, match=r"batch_size: 64 images of shape .* halve it"):
        compute_all(plan, store)
