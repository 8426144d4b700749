"""Architectures: each fits small images, is the published one, draws nothing at random, and folds."""

import json
from collections.abc import Sequence
from typing import get_args

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from advfeat import models
from advfeat.errors import DamagedArtifactError, InputError
from advfeat.models import resnet
from advfeat.spec import SMALLEST_SIDE, ModelName

ARCHITECTURES: tuple[ModelName, ...] = get_args(ModelName)
CIFAR, MNIST = (3, 32, 32), (1, 28, 28)

PUBLISHED_MILLIONS: dict[ModelName, float] = {
    "resnet18": 11.17,  # https://github.com/da2so/DA2Lite, model_zoo
    "resnet50": 23.52,  # the same
    "vgg16_bn": 14.73,  # the same
    "wide_resnet28_10": 36.5,  # Zagoruyko and Komodakis (2016)
    "densenet": 0.77,  # https://github.com/bearpaw/pytorch-classification; 0.8 in Huang et al. (2017)
}


def build(name: ModelName, shape: Sequence[int]) -> models.Normalized:
    torch.manual_seed(0)
    return models.build(name, width=8, image_shape=shape, classes=10)


def images_of(shape: Sequence[int], count: int = 2) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def test_every_architecture_has_a_smallest_side() -> None:
    assert tuple(SMALLEST_SIDE) == ARCHITECTURES


@pytest.mark.parametrize("shape", [CIFAR, MNIST])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_depend_on_every_image(name: ModelName, shape: tuple[int, int, int]) -> None:
    model = build(name, shape).eval().requires_grad_(False)
    images = images_of(shape).requires_grad_()
    logits = model(images)
    assert logits.shape == (2, 10)
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(logits, torch.tensor([3, 7])), images)
    assert gradient.isfinite().all()
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("name", PUBLISHED_MILLIONS)
def test_parameters_are_as_many_as_published(name: ModelName) -> None:
    with torch.device("meta"):  # shapes without numbers
        model = build(name, CIFAR)
    count = sum(weights.numel() for weights in model.parameters())
    assert count / 1e6 == pytest.approx(PUBLISHED_MILLIONS[name], rel=0.01)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_nothing_is_random_and_batch_norm_folds_into_convolutions(name: ModelName) -> None:
    model, images = build(name, MNIST), images_of(MNIST)
    before = torch.get_rng_state()
    with torch.no_grad():
        model.train()(images)  # gives batch norm statistics to fold
        assert torch.equal(torch.get_rng_state(), before)
        network = model.eval().network
        torch.testing.assert_close(fuse(network)(images), network(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_survive_storage_to_the_last_bit(name: ModelName) -> None:
    model = build(name, MNIST)
    stored = models.to_bytes(model, {"name": name, "width": 8, "image_shape": MNIST, "classes": 10})
    before, after = model.state_dict(), models.from_bytes(stored).state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_smallest_images_work_and_smaller_ones_are_refused(name: ModelName) -> None:
    side = SMALLEST_SIDE[name]
    shape = (1, side, side + 3)
    with torch.no_grad():
        model = build(name, shape)
        assert model.train()(images_of(shape)).isfinite().all()
        assert model.eval()(images_of(shape, 1)).shape == (1, 10)
    with pytest.raises(InputError) as caught:
        build(name, (1, side + 3, side - 1))
    assert str(caught.value) == (
        f"image_shape: [1, {side + 3}, {side - 1}] is too small for {name}; "
        f"set data.image_size to {side} or more, or choose another model"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "resnet17"},
        {"name": "vgg16_bn"},  # needs larger images
        {"name": "mlp"},  # has other weights
        {"image_shape": []},
        {"image_shape": [1]},
        {"image_shape": [1, 8, 8, 8]},
        {"image_shape": 8},
        {"classes": 3},
        {"depth": 28},
    ],
)
def test_a_file_that_contradicts_its_header_is_refused(wrong: dict[str, object]) -> None:
    architecture = {"name": "cnn", "width": 8, "image_shape": [1, 8, 8], "classes": 10}
    weights = dict(build("cnn", (1, 8, 8)).state_dict())

    def stored(header: dict[str, object]) -> bytes:
        content: bytes = safetensors.torch.save(weights, {"architecture": json.dumps(header)})
        return content

    models.from_bytes(stored(architecture))
    with pytest.raises(DamagedArtifactError):
        models.from_bytes(stored(architecture | wrong))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_residual_networks_are_torchvisions_to_the_last_bit(name: ModelName) -> None:
    """Weights of before they were defined here come back, and seeds give what they gave."""
    torch.manual_seed(3)
    theirs = getattr(torchvision.models, name)(num_classes=10)
    theirs.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    torch.manual_seed(3)
    ours = getattr(resnet, name)(1, 10)
    weights = ours.state_dict()
    assert list(weights) == list(theirs.state_dict())
    assert all(torch.equal(weights[key], value) for key, value in theirs.state_dict().items())
    images = torch.rand(2, 1, 12, 12)
    assert torch.equal(ours(images), theirs(images))
