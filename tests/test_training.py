"""Training: the same arguments give the same weights, any size of data trains, and nets come back whole."""

import pytest
import torch
from torch import Tensor

from advfeat import data, models
from advfeat.errors import DamagedArtifactError
from advfeat.evaluation import predict
from advfeat.experiment_file import load_experiment
from advfeat.spec import ModelName, TrainSpec
from advfeat.training import fit, flip_and_shift, shape_arguments


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    train = data.load(load_experiment("digits").data).train
    return torch.from_numpy(train.images), torch.from_numpy(train.labels)


@pytest.mark.parametrize(("model", "epochs"), [("mlp", 12), ("cnn", 5), ("resnet9", 5), ("resnet18", 5)])
def test_every_architecture_learns_and_survives_storage(
    digits: tuple[Tensor, Tensor], model: ModelName, epochs: int
) -> None:
    images, labels = digits[0][:400], digits[1][:400]
    spec = TrainSpec(model=model, width=8, epochs=epochs, learning_rate=0.05)
    trained = fit(images, labels, spec, classes=10, seed=0)
    predictions = predict(trained, images)
    assert (predictions == labels.numpy()).mean() > 0.8
    stored = models.to_bytes(trained, {"name": model, **shape_arguments(images, spec, 10)})
    assert (predict(models.from_bytes(stored), images) == predictions).all()


def test_seeds_decide_the_weights(digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits[0][:128], digits[1][:128]
    spec = TrainSpec(width=4, epochs=1, augmentation="flip-crop")

    def weights(seed: int) -> dict[str, Tensor]:
        return dict(fit(images, labels, spec, classes=10, seed=seed).state_dict())

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["network.0.0.weight"], other["network.0.0.weight"])


@pytest.mark.parametrize("count", [2, 3, 5, 65, 129])
@pytest.mark.parametrize("epochs", [1, 2])
def test_any_number_of_images_trains(digits: tuple[Tensor, Tensor], count: int, epochs: int) -> None:
    progress: list[tuple[int, int]] = []
    fit(
        digits[0][:count],
        digits[1][:count],
        TrainSpec(width=4, epochs=epochs),
        classes=10,
        seed=0,
        progress=lambda done, total: progress.append((done, total)),
    )
    assert progress
    assert all(done <= total == epochs * count for done, total in progress)


def test_images_that_are_not_square_train() -> None:
    images, labels = torch.randint(0, 256, (20, 3, 8, 12), dtype=torch.uint8), torch.arange(20) % 2
    for model in ("mlp", "cnn"):
        spec = TrainSpec(model=model, width=4, epochs=1, augmentation="flip-crop")
        fit(images, labels, spec, classes=2, seed=0)


def test_augmentation_only_moves_pixels() -> None:
    images = torch.rand(50, 3, 8, 8)
    moved = flip_and_shift(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert not torch.equal(moved, images)
    for before, after in zip(images, moved, strict=True):
        assert set(after.flatten().tolist()) <= set(before.flatten().tolist()) | {0.0}


PICKLE, NO_HEADER = b"\x80\x04K\x01.", b"\x08" + bytes(7) + b"{}      "


@pytest.mark.parametrize("content", [b"", PICKLE, NO_HEADER, bytes(100)])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(DamagedArtifactError):
        models.from_bytes(content)
