"""Rebuilt images: what a robust network keeps teaches robustness, what a standard one keeps does not."""

import pytest
import torch
from torch import Tensor

from advfeat import data
from advfeat.attacks import perturb
from advfeat.digest import derived_seed
from advfeat.errors import InputError
from advfeat.evaluation import predict
from advfeat.methods.representations import rebuild, representation_layer, representations
from advfeat.models import Normalized, as_pixels, build
from advfeat.planning import load_experiment
from advfeat.spec import Attack, ModelName, TrainSpec, UntargetedAttack
from advfeat.training import TrainingSet, fit

# A representation of fewer values than pixels: a larger one can only be matched by the image itself.
STANDARD = TrainSpec(model="cnn", width=4, epochs=8)
ROBUST = STANDARD.model_copy(
    update={
        "epochs": 16,
        "adversarial": UntargetedAttack(eps=1.0, steps=4, step_size=0.4, random_start=True),
    }
)


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels; pixels float32 in [0, 1]."""
    images = data.load(load_experiment("digits").data)
    return (
        as_pixels(torch.from_numpy(images.train.images)),
        torch.from_numpy(images.train.labels),
        as_pixels(torch.from_numpy(images.test.images)),
        torch.from_numpy(images.test.labels),
    )


def shuffled(images: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(derived_seed(seed, "starts"))
    return images[torch.randperm(len(images), generator=generator)]


@pytest.mark.slow
def test_only_what_a_robust_network_keeps_teaches_robustness(
    digits: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    images, labels, test_images, test_labels = digits
    attack = Attack(eps=0.5, steps=20, targeted=False)
    clean, robust = {}, {}
    for name, spec in (("D_NR", STANDARD), ("D_R", ROBUST)):
        source = fit(TrainingSet.in_memory(images, labels), spec, classes=10, seed=0)
        rebuilt = rebuild(source, images, shuffled(images, 0), steps=50, step_size=0.1)
        target = fit(
            TrainingSet.in_memory(rebuilt, labels),
            TrainSpec(model="cnn", width=24, epochs=8),
            classes=10,
            seed=1,
        )
        adversarial = perturb(target, test_images, test_labels, attack)
        clean[name] = (predict(target, test_images) == test_labels.numpy()).mean()
        robust[name] = (predict(target, adversarial) == test_labels.numpy()).mean()
    print(f"clean {clean}, under L2 0.5 {robust}")
    assert min(clean.values()) > 0.8
    assert robust["D_R"] > 0.4
    assert robust["D_NR"] < robust["D_R"] / 2


def trained(digits: tuple[Tensor, Tensor, Tensor, Tensor]) -> Normalized:
    return fit(
        TrainingSet.in_memory(digits[0][:300], digits[1][:300]),
        TrainSpec(width=8, epochs=3),
        classes=10,
        seed=0,
    )


def test_the_representation_is_approached_from_the_start(
    digits: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    model, targets = trained(digits), digits[0][:100]
    noise = torch.rand(targets.shape, generator=torch.Generator().manual_seed(0))
    for starts in (shuffled(targets, 0), noise):
        rebuilt = rebuild(model, targets, starts, steps=30, step_size=0.1)
        with torch.no_grad():
            before, aims, after = (representations(model, x) for x in (starts, targets, rebuilt))
        far, near = ((x - aims).norm(dim=1) for x in (before, after))
        assert (near < far).all()
        assert near.mean() < 0.5 * far.mean()
        assert rebuilt.min() >= 0
        assert rebuilt.max() <= 1
        moved = (rebuilt - starts).flatten(1).double().norm(dim=1)
        assert moved.max() <= 30 * 0.1 * (1 + 1e-5)
        assert moved.min() > 0.1


def test_images_that_already_match_stay(digits: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    images = digits[0][:20]
    assert torch.equal(rebuild(trained(digits), images, images, steps=3, step_size=0.1), images)


def test_neither_batches_nor_neighbours_show(digits: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    model, targets = trained(digits), digits[0][:150]
    starts, done = shuffled(targets, 1), []
    whole = rebuild(
        model, targets, starts, steps=5, step_size=0.1, progress=lambda *counts: done.append(counts)
    )
    parts = zip(targets.split([1, 2, 37, 110]), starts.split([1, 2, 37, 110]), strict=True)
    assert torch.equal(torch.cat([rebuild(model, *part, steps=5, step_size=0.1) for part in parts]), whole)
    assert done == [(128, 150), (150, 150)]


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet9", "resnet18", "wide_resnet28_10"])
def test_the_last_layer_turns_the_representation_into_logits(name: ModelName) -> None:
    torch.manual_seed(0)
    model = build(name, width=4, image_shape=(3, 16, 16), classes=5).eval()
    images = torch.rand(2, 3, 16, 16).requires_grad_()
    features = representations(model, images)
    scale = 0.125 if name == "resnet9" else 1.0
    assert torch.allclose(scale * representation_layer(model)(features), model(images), atol=1e-5)
    (gradient,) = torch.autograd.grad(features.square().sum(), images)
    assert (gradient.flatten(1).norm(dim=1) > 0).all()


def test_the_model_is_left_as_it_was() -> None:
    model = build("cnn", width=4, image_shape=(1, 8, 8), classes=3).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rebuild(model, torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8), steps=2, step_size=0.1)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_cannot_be_rebuilt_is_refused() -> None:
    model = build("cnn", width=4, image_shape=(1, 8, 8), classes=3)
    with pytest.raises(InputError, match="one start for each target"):
        rebuild(model, torch.rand(4, 1, 8, 8), torch.rand(3, 1, 8, 8), steps=1, step_size=0.1)
    with pytest.raises(InputError, match="has no linear layer"):
        representation_layer(torch.nn.Conv2d(1, 1, 3))


def test_no_images_give_no_images() -> None:
    model, none = build("mlp", width=4, image_shape=(1, 4, 4), classes=2), torch.empty(0, 1, 4, 4)
    assert rebuild(model, none, none, steps=1, step_size=0.1).shape == none.shape
