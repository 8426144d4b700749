"""Another domain's images: mapped exactly, balanced exactly, and enough to teach digits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from advfeat import data
from advfeat.digest import derived_seed
from advfeat.errors import InputError
from advfeat.evaluation import predict
from advfeat.methods.cross_domain import class_balanced, with_statistics_of
from advfeat.models import as_pixels
from advfeat.planning import load_experiment
from advfeat.spec import TrainSpec
from advfeat.training import TrainingSet, fit

SPEC = TrainSpec(width=16, epochs=8)
CHANCE = 0.1


def test_mapped_images_have_the_other_domains_statistics() -> None:
    rng = np.random.default_rng(0)
    a = torch.from_numpy(rng.beta(1, 5, (40, 3, 7, 5)).astype(np.float32))
    b = torch.from_numpy(rng.integers(0, 256, (60, 3, 8, 8), dtype=np.uint8))
    mapped = with_statistics_of(b, a)
    assert mapped.dtype == torch.float32
    assert mapped.shape == b.shape
    over = (0, 2, 3)
    assert np.allclose(mapped.numpy().mean(over), a.numpy().mean(over), atol=1e-5)
    assert np.allclose(mapped.numpy().std(over, ddof=1), a.numpy().std(over, ddof=1), atol=1e-5)
    for channel in range(3):
        line = np.corrcoef(mapped[:, channel].flatten(), b[:, channel].flatten())
        assert line[0, 1] == pytest.approx(1), "an increasing line: order and shape of the image stay"
    assert torch.allclose(with_statistics_of(a, a), a, atol=1e-6)


def test_a_constant_channel_becomes_the_other_mean() -> None:
    a = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    mapped = with_statistics_of(torch.full((5, 1, 3, 3), 0.7), a)
    assert torch.allclose(mapped, a.mean().expand_as(mapped), atol=1e-3)


def test_grey_and_coloured_domains_are_refused() -> None:
    with pytest.raises(InputError, match="3 channels"):
        with_statistics_of(torch.rand(4, 3, 8, 8), torch.rand(4, 1, 8, 8))


@settings(max_examples=200, deadline=None)
@given(labels=st.lists(st.integers(0, 9), max_size=200), seed=st.integers(0, 2**31))
def test_every_class_that_occurs_is_equally_frequent(labels: list[int], seed: int) -> None:
    given_labels = np.array(labels, dtype=np.int64)
    rows = class_balanced(given_labels, np.random.default_rng(seed))
    assert rows.dtype == np.int64
    assert (np.diff(rows) >= 0).all()
    classes, counts = np.unique(given_labels[rows], return_counts=True)
    assert set(classes) == set(labels)
    assert len(set(counts)) <= 1
    assert len(labels) - len(classes) < len(rows) + 1 <= len(labels) + 1
    for label in classes:
        times = np.bincount(rows, minlength=len(labels))[given_labels == label]
        assert times.max() - times.min() <= 1, "no row twice before all came once"
    assert np.array_equal(rows, class_balanced(given_labels, np.random.default_rng(seed)))


@pytest.fixture(scope="module")
def digits() -> data.ImageData:
    return data.load(load_experiment("digits").data)


def random_blots(count: int, seed: int) -> Tensor:
    """Draw low-pass noise, sharpened: light blots of 8x8 pixels on a dark ground, which show no digits."""
    noise = torch.randn(count, 1, 10, 10, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool2d(noise, 3, stride=1)
    return 0.4 + 0.5 * torch.sigmoid(8 * smooth)


@pytest.mark.slow
def test_a_target_learns_digits_from_blots_that_a_source_labelled(digits: data.ImageData) -> None:
    images, labels = torch.from_numpy(digits.train.images), torch.from_numpy(digits.train.labels)
    test, truth = torch.from_numpy(digits.test.images), digits.test.labels
    source = fit(TrainingSet.in_memory(images, labels), SPEC, classes=10, seed=0)
    assert (predict(source, test) == truth).mean() > 0.95

    rng = np.random.default_rng(0)
    blots = with_statistics_of(random_blots(2000, seed=1), as_pixels(images))
    named = predict(source, blots)
    rows = class_balanced(named, rng)
    accuracy = {}
    for name, taught in (("source's", named[rows]), ("permuted", rng.permutation(named[rows]))):
        target = fit(
            TrainingSet.in_memory(blots[rows], torch.from_numpy(taught)),
            SPEC,
            classes=10,
            seed=derived_seed(0, "target"),
        )
        accuracy[name] = (predict(target, test) == truth).mean()
    assert accuracy["source's"] > 5 * CHANCE
    assert accuracy["permuted"] < 2.5 * CHANCE
