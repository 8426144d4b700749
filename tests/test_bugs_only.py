"""Adversarial examples that do not transfer: they fool their source and teach nothing."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from advfeat import data
from advfeat.attacks import REFERENCE, Engine, choose_engine, objective
from advfeat.attacks.pgd import attack_step, perturb
from advfeat.attacks.step_graph import trace_step
from advfeat.errors import InputError
from advfeat.evaluation import predict
from advfeat.methods.bugs_only import ModelAndGuards, perturb_without_transfer
from advfeat.models import Normalized, as_pixels, build
from advfeat.planning import load_experiment
from advfeat.report.intervals import wilson_interval
from advfeat.spec import AttackLoss, Norm, TargetedAttack
from advfeat.training import TrainingSet, fit

CHANCE = 0.1
ATTACK = load_experiment("digits").attack.model_copy(update={"eps": 1.25})
Digits = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture(scope="module")
def digits() -> Digits:
    """Training images and labels, test images and labels; pixels float32 in [0, 1]."""
    images = data.load(load_experiment("digits").data)
    return (
        as_pixels(torch.from_numpy(images.train.images)),
        torch.from_numpy(images.train.labels),
        as_pixels(torch.from_numpy(images.test.images)),
        torch.from_numpy(images.test.labels),
    )


@pytest.fixture(scope="module")
def networks(digits: Digits) -> list[Normalized]:
    """A source, three guards and two networks that nobody asks, alike but for the seed."""
    spec = load_experiment("digits", ["source.epochs=8", "source.width=16"]).source
    data = TrainingSet.in_memory(*digits[:2])
    return [fit(data, spec, classes=10, seed=seed) for seed in range(6)]


@pytest.mark.slow
def test_what_does_not_transfer_teaches_nothing(digits: Digits, networks: list[Normalized]) -> None:
    images, labels, test_images, test_labels = digits
    source, guards, others = networks[0], networks[1:4], networks[4:]
    targets = (labels + 1) % 10
    examples = {
        "D_det": perturb(source, images, targets, ATTACK),
        "bugs": perturb_without_transfer(source, guards, images, targets, labels, ATTACK, seed=0),
    }
    hit, transferred, learned = {}, {}, {}
    spec = load_experiment("digits", ["target.width=16"]).target
    for name, adversarial in examples.items():
        hit[name] = (predict(source, adversarial) == targets.numpy()).mean()
        transferred[name] = np.mean([(predict(net, adversarial) == targets.numpy()).mean() for net in others])
        student = fit(TrainingSet.in_memory(adversarial, targets), spec, classes=10, seed=6)
        right = int((predict(student, test_images) == test_labels.numpy()).sum())
        learned[name] = wilson_interval(right, len(test_labels))
    print(f"source {hit}, other networks {transferred}, learned {learned}")
    assert hit["bugs"] > max(0.8, hit["D_det"] - 0.05)
    assert transferred["D_det"] > 0.4
    assert transferred["bugs"] < transferred["D_det"] / 4
    assert learned["D_det"][0] > 3 * CHANCE
    assert learned["bugs"][0] < CHANCE


@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "logit"])
def test_the_step_descends_on_the_loss_of_all_networks(loss: AttackLoss) -> None:
    """Against autograd on the sum that the docstring states, in float32."""
    torch.manual_seed(0)
    model, *guards = (build("mlp", width=4, image_shape=(1, 4, 4), classes=3).eval() for _ in range(4))
    images = 0.25 + torch.rand(5, 1, 4, 4) / 2  # no step leaves [0, 1]
    targets, labels = torch.arange(5) % 3, (torch.arange(5) + 1) % 3
    attack = TargetedAttack(eps=1, steps=1, step_size=0.1, loss=loss)
    step = attack_step(ModelAndGuards(model, guards, attack), attack.model_copy(update={"loss": "logit"}))
    ours, _ = step(images, torch.zeros_like(images), 3 * targets + labels)

    value, pixels = objective(attack), images.clone().requires_grad_()
    kept = sum(value(guard(pixels), labels) for guard in guards) / 3
    (gradient,) = torch.autograd.grad((value(model(pixels), targets) + kept).sum(), pixels)
    assert torch.allclose(
        ours, -0.1 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1), atol=1e-5
    )


def test_bf16_begins_at_each_networks_first_layer() -> None:
    torch.manual_seed(0)
    model, *guards = (build("cnn", width=8, image_shape=(1, 8, 8), classes=3).eval() for _ in range(3))
    for network in (model, *guards):
        network.set_statistics(torch.full((1,), 0.9), torch.full((1,), 0.01))
    images = 0.88 + 0.04 * torch.rand(16, 1, 8, 8)
    pairs = ModelAndGuards(model, guards, TargetedAttack(eps=1, steps=1, loss="logit"))
    engine = choose_engine(pairs, images[:1], "bf16", 1)
    assert engine.precision == "bf16"
    with torch.no_grad():
        exact, rounded = pairs(images), engine.prepare(pairs)(images)
    assert 0 < (rounded - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "logit"])
def test_a_traced_step_is_the_step(loss: AttackLoss) -> None:
    torch.manual_seed(0)
    model, *guards = (build("cnn", width=4, image_shape=(1, 8, 8), classes=3).eval() for _ in range(3))
    attack = TargetedAttack(eps=1, steps=4, loss=loss)
    pairs = ModelAndGuards(model, guards, attack).double()
    images, aims = torch.rand(16, 1, 8, 8).double(), torch.arange(16) % 9
    example = (images, torch.zeros_like(images), aims)
    for engine in (REFERENCE, Engine(optimized=True)):
        step = attack_step(engine.prepare(pairs), attack.model_copy(update={"loss": "logit"}))
        with torch.no_grad():
            (plain, _), (ours, _) = step(*example), trace_step(step, example)(*example)
        assert torch.allclose(ours, plain, atol=1e-6)  # losses are float32
        assert plain.any()


@settings(max_examples=30, deadline=None)
@given(
    norm=st.sampled_from(["l2", "linf", "l1", "l0"]),
    eps=st.integers(1, 8),
    loss=st.sampled_from(["cross-entropy", "margin", "logit"]),
    random_start=st.booleans(),
    restarts=st.integers(0, 1),
    stop_confidence=st.none() | st.floats(0.05, 0.95),
    seed=st.integers(0, 2**31 - 1),
)
def test_every_example_lies_in_the_ball_and_in_the_pixel_range(
    norm: Norm,
    eps: int,
    loss: AttackLoss,
    random_start: bool,
    restarts: int,
    stop_confidence: float | None,
    seed: int,
) -> None:
    eps = 1 if norm == "linf" else eps  # no two pixels are further apart
    attack = TargetedAttack(
        norm=norm,
        eps=eps,
        steps=3,
        loss=loss,
        random_start=random_start,
        restarts=restarts,
        stop_confidence=stop_confidence,
    )
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((5, 3, 6, 6), generator=generator)
    targets, labels = torch.randint(0, 4, (2, 5), generator=generator)
    model, *guards = (build("mlp", width=4, image_shape=(3, 6, 6), classes=4) for _ in range(3))
    found = perturb_without_transfer(model, guards, images, targets, labels, attack, seed=seed)
    difference = (found.double() - images.double()).flatten(1)
    order = {"l2": 2, "linf": torch.inf, "l1": 1, "l0": 0}[norm]
    assert torch.linalg.vector_norm(difference, ord=order, dim=1).max() <= eps
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.slow
def test_neither_batches_nor_neighbours_show(digits: Digits, networks: list[Normalized]) -> None:
    images, labels = digits[0][:150], digits[1][:150]
    targets, attack = (labels + 1) % 10, ATTACK.model_copy(update={"steps": 4, "random_start": True})
    rows, engine = list(range(150)), Engine(tile=64)

    def found(part: slice) -> Tensor:
        given = (images[part], targets[part], labels[part], attack)
        return perturb_without_transfer(
            networks[0], networks[1:3], *given, seed=3, rows=rows[part], engine=engine
        )

    whole = found(slice(150))
    cuts = [0, 1, 3, 40, 150]
    pieces = [found(slice(*ends)) for ends in pairwise(cuts)]
    assert torch.equal(torch.cat(pieces), whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine", [Engine(optimized=True), Engine("bf16", optimized=True)], ids=["folded", "bf16"]
)
def test_fast_paths_are_as_strong(digits: Digits, networks: list[Normalized], engine: Engine) -> None:
    images, labels = digits[0][:128], digits[1][:128]
    targets, attack = (labels + 1) % 10, ATTACK.model_copy(update={"eps": 1.0})
    hits, leaks = [], []
    for chosen in (Engine(), engine):
        found = perturb_without_transfer(
            networks[0], networks[1:4], images, targets, labels, attack, seed=0, engine=chosen
        )
        hits.append((predict(networks[0], found) == targets.numpy()).mean())
        leaks.append((predict(networks[1], found) == targets.numpy()).mean())
    assert 0.3 < hits[0] < 0.9
    assert abs(hits[1] - hits[0]) <= 0.03
    assert max(leaks) < 0.05


def test_what_cannot_be_attacked_is_refused() -> None:
    model, images = build("mlp", width=4, image_shape=(1, 4, 4), classes=3), torch.rand(2, 1, 4, 4)
    right, attack = torch.tensor([0, 1]), TargetedAttack(eps=1, steps=1)
    with pytest.raises(InputError, match="at least one other network"):
        perturb_without_transfer(model, [], images, right, right, attack, seed=0)
    for wrong in (torch.tensor([0, 3]), torch.tensor([-1, 0])):
        with pytest.raises(InputError, match="is not a class of a model that has 3"):
            perturb_without_transfer(model, [model], images, right, wrong, attack, seed=0)
        with pytest.raises(InputError, match="is not a class of a model that has 3"):
            perturb_without_transfer(model, [model], images, wrong, right, attack, seed=0)
    none = perturb_without_transfer(model, [model], images[:0], right[:0], right[:0], attack, seed=0)
    assert none.shape == (0, 1, 4, 4)
