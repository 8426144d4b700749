"""Attacks against an independent implementation (foolbox), and what holds for every example."""

import copy
import subprocess
import sys
import warnings
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from foolbox.attacks.projected_gradient_descent import (
    L1ProjectedGradientDescentAttack,
    L2ProjectedGradientDescentAttack,
    LinfProjectedGradientDescentAttack,
)
from foolbox.criteria import Misclassification, TargetedMisclassification
from foolbox.models.pytorch import PyTorchModel
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from advfeat import data
from advfeat.attacks import BALLS, pgd, within
from advfeat.attacks.engine import (
    REFERENCE,
    Engine,
    choose_engine,
    convolutions_for,
    step_flop,
)
from advfeat.attacks.objectives import objective, reached
from advfeat.attacks.pgd import attack_step, perturb
from advfeat.attacks.rows import ROW_MULTIPLE
from advfeat.attacks.schedules import checkpoints, starting_state
from advfeat.attacks.step_graph import Step
from advfeat.errors import InputError
from advfeat.models import Normalized, as_pixels, build, from_bytes, to_bytes
from advfeat.planning import load_experiment
from advfeat.spec import LOSSES, Attack, AttackLoss, ModelName, Norm, StepSchedule
from advfeat.training import TrainingSet, fit
from benchmarks.peers import PEERS, BallNorm, Descent

NORMS = get_args(Norm)
SCHEDULES = get_args(StepSchedule)
FOOLBOX: dict[str, Any] = {
    "l1": L1ProjectedGradientDescentAttack,
    "l2": L2ProjectedGradientDescentAttack,
    "linf": LinfProjectedGradientDescentAttack,
}


@pytest.fixture(scope="module")
def attacked() -> tuple[Normalized, Tensor, Tensor]:
    """A trained model with 256 test images, float32 in [0, 1], and labels that it gets right."""
    experiment = load_experiment("digits")
    images = data.load(experiment.data)
    training = torch.from_numpy(images.train.images), torch.from_numpy(images.train.labels)
    model = fit(TrainingSet.in_memory(*training), experiment.source, classes=10, seed=0)
    pixels, labels = as_pixels(torch.from_numpy(images.test.images)), torch.from_numpy(images.test.labels)
    right = model(pixels).argmax(1) == labels
    assert right.float().mean() > 0.95
    return model, pixels[right][:256], labels[right][:256]


def lengths(norm: Norm, images: Tensor, adversarial: Tensor) -> np.ndarray:
    """Measure perturbations with numpy in float64, apart from the code under test."""
    difference = (adversarial.numpy().astype(np.float64) - images.numpy().astype(np.float64)).reshape(
        len(images), -1
    )
    order = {"l2": 2, "linf": np.inf, "l1": 1, "l0": 0}[norm]
    return np.asarray(np.linalg.norm(difference, ord=order, axis=1))


@pytest.mark.parametrize("targeted", [True, False], ids=["targeted", "untargeted"])
@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.8), ("l2", 1.5), ("linf", 0.2), ("linf", 0.3)])
def test_as_strong_as_foolbox(
    attacked: tuple[Normalized, Tensor, Tensor], norm: Norm, eps: float, targeted: bool
) -> None:
    model, images, labels = attacked
    steps, step_size = 20, eps / 8
    aims = (labels + 1) % 10 if targeted else labels
    attack = Attack(norm=norm, eps=eps, steps=steps, step_size=step_size, targeted=targeted)
    ours = perturb(model, images, aims, attack)

    peer = FOOLBOX[norm](abs_stepsize=step_size, steps=steps, random_start=False)
    criterion = TargetedMisclassification if targeted else Misclassification
    wrapped = PyTorchModel(model, bounds=(0, 1), device="cpu")
    _, theirs, _ = peer(wrapped, images, criterion(aims), epsilons=eps)

    reference = success(model, theirs, aims, targeted)
    assert reference > 0.2, "the comparison says nothing where the peer fails"
    assert abs(success(model, ours, aims, targeted) - reference) <= 0.02
    assert lengths(norm, images, ours).max() <= eps
    assert ours.min() >= 0
    assert ours.max() <= 1


def losses(model: torch.nn.Module, images: Tensor, aims: Tensor, attack: Attack) -> Tensor:
    with torch.no_grad():
        return objective(attack)(model(images), aims)


@pytest.mark.parametrize("targeted", [True, False], ids=["targeted", "untargeted"])
@pytest.mark.parametrize("steps", [20, 100])
@pytest.mark.parametrize(("norm", "eps"), [("l2", 1.0), ("linf", 0.2)])
def test_auto_pgd_is_that_of_its_authors(
    attacked: tuple[Normalized, Tensor, Tensor], norm: Norm, eps: float, steps: int, targeted: bool
) -> None:
    """Their code rounds checkpoints in another way, but for 100 steps, and judges the first one otherwise."""
    peers = pytest.importorskip("pyautoattack.autopgd_base", reason="the extra autoattack is not installed")
    model, images, labels = attacked[0], attacked[1][:128], attacked[2][:128]
    aims = (labels + 1) % 10 if targeted else labels
    attack = Attack(norm=norm, eps=eps, steps=steps, targeted=targeted, schedule="apgd", precision="fp32")
    ours = perturb(model, images, aims, attack)

    kind = peers.APGDAttack_targeted if targeted else peers.APGDAttack
    peer = kind(model, n_iter=steps, norm={"l2": "L2", "linf": "Linf"}[norm], eps=eps, device="cpu")
    peer.loss, peer.y_target = "ce-targeted" if targeted else "ce", aims
    peer.init_hyperparam(images)
    theirs = peer.attack_single_run(images, labels, x_init=images.clone())[0]

    reference = success(model, theirs, aims, targeted)
    assert reference > 0.2, "the comparison says nothing where the peer fails"
    assert abs(success(model, ours, aims, targeted) - reference) <= 0.02
    found, wanted = (losses(model, examples, aims, attack).mean() for examples in (ours, theirs))
    assert abs(found - wanted) <= 0.02 * abs(wanted)


@pytest.mark.parametrize("loss", LOSSES)
def test_auto_pgd_ends_at_the_best_point(attacked: tuple[Normalized, Tensor, Tensor], loss: str) -> None:
    """Its first step overshoots: where nothing better is found, the image stays as it is."""
    model, images, labels = attacked[0], attacked[1][:64], attacked[2][:64]
    attack = Attack(eps=0.3, steps=2, loss=loss, schedule="apgd", step_size=3, precision="fp32")
    aims = (labels + 1) % 10
    before = losses(model, images, aims, attack)
    after = losses(model, perturb(model, images, aims, attack), aims, attack)
    constant = perturb(model, images, aims, attack.model_copy(update={"schedule": "constant"}))
    assert (after <= before + 1e-5).all()
    assert after.mean() <= losses(model, constant, aims, attack).mean()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_a_schedule_keeps_follows_its_image(
    attacked: tuple[Normalized, Tensor, Tensor], schedule: StepSchedule
) -> None:
    """Through tiles, and where images that have stopped make room for others every ten steps."""
    model, images, labels = attacked[0], attacked[1][:80], attacked[2][:80]
    aims = (labels + 1) % 10
    attack = Attack(eps=1.1, steps=25, random_start=True, schedule=schedule, precision="fp32")
    whole = perturb(model, images, aims, attack)
    stopping = attack.model_copy(update={"stop_confidence": 0.6})
    stopped = perturb(model, images, aims, stopping, engine=Engine(tile=32))
    with torch.no_grad():
        confidence = model(stopped).softmax(1).gather(1, aims[:, None])[:, 0]
    unsure = confidence < 0.6
    assert 10 < unsure.sum() < 70
    assert torch.equal(stopped[unsure], whole[unsure])
    assert (stopped != whole).flatten(1).any(1).sum() > 10
    parts = [
        perturb(model, images[some], aims[some], stopping, rows=range(some.start, some.stop))
        for some in (slice(0, 3), slice(3, 80))
    ]
    assert torch.equal(torch.cat(parts), stopped)


def test_lengths_fall_along_half_a_cosine() -> None:
    """Of a linear network, all of whose steps go one way."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2))
    image, label = torch.full((1, 1, 6, 6), 0.5), torch.tensor([0])
    attack = Attack(eps=5, steps=4, step_size=0.02, schedule="cosine", loss="logit")
    moved, state = torch.zeros_like(image), starting_state(attack, torch.zeros_like(image))
    lengths = [0.0]
    for _ in range(attack.steps):
        moved, _, *rest = attack_step(network, attack)(image, moved, label, *state)
        state = tuple(rest)
        lengths.append(float(moved.norm()))
    assert np.allclose(np.diff(lengths), 0.01 * (1 + np.cos(np.pi * np.arange(4) / 4)), atol=1e-6)


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_steps_along_a_cosine_are_as_long_together_as_constant_ones(steps: int) -> None:
    attack = Attack(eps=0.5, steps=steps, schedule="cosine")
    shares = (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2
    assert attack.step_length * shares.sum() == pytest.approx(2.5 * attack.eps)


def test_checkpoints_are_those_of_the_paper() -> None:
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1) == [0, 1]
    assert checkpoints(5) == [0, 2, 3, 4, 5]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_a_step_returns_lies_in_memory_as_what_it_takes(schedule: StepSchedule, channels: int) -> None:
    """Else the second step would be compiled again."""
    engine = Engine(optimized=True)
    network = engine.prepare(build("cnn", width=4, image_shape=(channels, 8, 8), classes=3))
    images = torch.rand(4, channels, 8, 8).contiguous(memory_format=engine.layout)
    attack = Attack(eps=1, steps=3, schedule=schedule)
    state = starting_state(attack, torch.zeros_like(images))
    with torch.no_grad():
        step = attack_step(network, attack)
        moved, _, *after = step(images, torch.zeros_like(images), torch.tensor([0, 1, 2, 0]), *state)
    layouts = [
        [(part.dtype, part.stride()) for part in parts] for parts in ((images, *state), (moved, *after))
    ]
    assert layouts[0] == layouts[1]


def test_a_constant_schedule_is_not_in_descriptions() -> None:
    """So that what was computed before there were schedules keeps its digest."""
    assert "schedule" not in Attack(eps=1, steps=1).model_dump()
    assert Attack(eps=1, steps=1, schedule="cosine").model_dump()["schedule"] == "cosine"


@pytest.mark.parametrize(
    ("norm", "schedule", "message"),
    [
        ("l0", "cosine", "l0 counts how many values change; leave schedule out"),
        ("l0", "apgd", "l0 counts how many values change; leave schedule out"),
        ("l1", "apgd", "is for l2 and linf, and norm is l1; give schedule constant or cosine"),
    ],
)
def test_schedules_that_a_norm_does_not_have_are_refused(norm: Norm, schedule: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Attack.model_validate({"norm": norm, "eps": 3, "steps": 5, "schedule": schedule})


def success(model: torch.nn.Module, adversarial: Tensor, aims: Tensor, targeted: bool = True) -> float:
    with torch.no_grad():
        return float(reached(model(adversarial), aims, targeted).float().mean())


@pytest.mark.parametrize("targeted", [True, False], ids=["targeted", "untargeted"])
def test_sparse_steps_beat_foolboxs_dense_ones_in_l1(
    attacked: tuple[Normalized, Tensor, Tensor], targeted: bool
) -> None:
    """Dense l1 steps are known to be weak (Tramèr & Boneh 2019); ours must not be weaker than those."""
    model, images, labels = attacked
    aims = (labels + 1) % 10 if targeted else labels
    ours = perturb(model, images, aims, Attack(norm="l1", eps=3, steps=20, targeted=targeted))
    peer = FOOLBOX["l1"](rel_stepsize=0.125, steps=20, random_start=False)
    criterion = TargetedMisclassification if targeted else Misclassification
    _, theirs, _ = peer(PyTorchModel(model, bounds=(0, 1), device="cpu"), images, criterion(aims), epsilons=3)
    assert success(model, ours, aims, targeted) > 0.4
    assert success(model, ours, aims, targeted) >= success(model, theirs, aims, targeted) - 0.02


@pytest.mark.parametrize(("eps", "least"), [(2, 0.1), (8, 0.8)])
def test_a_few_pixels_suffice(attacked: tuple[Normalized, Tensor, Tensor], eps: int, least: float) -> None:
    model, images, labels = attacked
    aims = (labels + 1) % 10
    sparse = perturb(model, images, aims, Attack(norm="l0", eps=eps, steps=20))
    assert success(model, sparse, aims) >= least
    anywhere = torch.where(torch.rand_like(images) < eps / 64, torch.rand_like(images).round(), images)
    assert success(model, sparse, aims) > 2 * success(model, anywhere, aims)


@settings(max_examples=60, deadline=None)
@given(
    norm=st.sampled_from(NORMS),
    eps=st.floats(1e-3, 20),
    steps=st.integers(1, 4),
    step_size=st.none() | st.floats(1e-4, 10),
    targeted=st.booleans(),
    loss=st.sampled_from(LOSSES),
    random_start=st.booleans(),
    restarts=st.integers(0, 1),
    stop_confidence=st.none() | st.floats(0.05, 0.95),
    seed=st.integers(0, 2**31 - 1),
    pixels=st.sampled_from(["any", "black and white", "constant"]),
    schedule=st.sampled_from(SCHEDULES),
)
def test_every_example_lies_in_the_ball_and_in_the_pixel_range(
    norm: Norm,
    eps: float,
    steps: int,
    step_size: float | None,
    targeted: bool,
    loss: AttackLoss,
    random_start: bool,
    restarts: int,
    stop_confidence: float | None,
    seed: int,
    pixels: str,
    schedule: StepSchedule,
) -> None:
    eps = float(int(eps) + 1) if norm == "l0" else eps
    schedule = "constant" if norm in ("l1", "l0") else schedule
    if norm == "linf":  # no two pixels are further apart
        eps, step_size = min(eps, 1), None if step_size is None else min(step_size, 1)
    attack = Attack(
        norm=norm,
        eps=eps,
        steps=steps,
        step_size=step_size,
        targeted=targeted,
        loss=loss,
        random_start=random_start,
        restarts=restarts,
        stop_confidence=stop_confidence,
        schedule=schedule,
    )
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((7, 3, 6, 6), generator=generator)
    images = {"any": images, "black and white": images.round(), "constant": torch.full_like(images, 0.5)}[
        pixels
    ]
    labels = torch.randint(0, 4, (7,), generator=generator)
    model = build("mlp", width=4, image_shape=(3, 6, 6), classes=4)
    adversarial = perturb(model, images, labels, attack, seed=seed)
    assert adversarial.dtype == torch.float32
    assert adversarial.shape == images.shape
    assert lengths(norm, images, adversarial).max() <= eps
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


@settings(max_examples=100, deadline=None)
@given(norm=st.sampled_from(NORMS), eps=st.floats(1e-6, 5), seed=st.integers(0, 2**31 - 1))
def test_within_mends_whatever_it_is_given(norm: Norm, eps: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((5, 1, 4, 4), generator=generator)
    wild = images + 10 * torch.randn((5, 1, 4, 4), generator=generator)
    wild[0, 0, 0, 0] = torch.nan
    mended = within(images, wild, BALLS[norm], eps)
    assert lengths(norm, images, mended).max() <= eps
    assert mended.min() >= 0
    assert mended.max() <= 1
    assert torch.equal(mended[0], images[0])


@settings(max_examples=60, deadline=None)
@given(norm=st.sampled_from(NORMS), eps=st.floats(1, 8), seed=st.integers(0, 2**31 - 1))
def test_projection_is_into_the_ball_and_leaves_what_is_inside(norm: Norm, eps: float, seed: int) -> None:
    eps = float(int(eps)) if norm == "l0" else eps
    perturbation = 3 * torch.randn((6, 1, 4, 4), generator=torch.Generator().manual_seed(seed)).double()
    projected = BALLS[norm].project(perturbation, eps)
    assert (BALLS[norm].length(projected) <= eps * (1 + 1e-12)).all()
    assert torch.allclose(BALLS[norm].project(projected, eps), projected, atol=1e-12)
    assert (projected.abs() <= perturbation.abs() + 1e-12).all()
    assert (projected * perturbation >= 0).all()


def test_projection_onto_the_l1_ball_is_the_nearest_point() -> None:
    from scipy.optimize import minimize

    point = np.random.default_rng(0).normal(size=6)
    ours = BALLS["l1"].project(torch.from_numpy(point).view(1, 1, 2, 3), 1.5).flatten().numpy()
    bound = {"type": "ineq", "fun": lambda parts: 1.5 - parts.sum()}  # positive and negative parts
    found = minimize(
        lambda parts: ((parts[:6] - parts[6:] - point) ** 2).sum(),
        np.full(12, 0.1),
        bounds=[(0, None)] * 12,
        constraints=[bound],
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert np.allclose(ours, found.x[:6] - found.x[6:], atol=1e-4)


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_random_starts_fill_the_ball(norm: Norm) -> None:
    generators = [torch.Generator().manual_seed(number) for number in range(400)]
    points = BALLS[norm].random_points((1, 3, 3), 0.5, generators)
    measured = lengths(norm, torch.zeros_like(points), points)
    assert measured.max() <= 0.5 + 1e-6
    # Uniform in the ball of 9 dimensions: the radius has median 2 ** (-1 / 9) of eps in every norm.
    assert np.median(measured) == pytest.approx(0.5 * 2 ** (-1 / 9), rel=0.02)


def test_the_model_is_left_as_it_was() -> None:
    model = build("cnn", width=4, image_shape=(1, 8, 8), classes=3).train()
    frozen = next(model.parameters()).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    perturb(model, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0]), Attack(eps=1, steps=3))
    assert model.training
    assert not frozen.requires_grad
    assert sum(parameter.requires_grad for parameter in model.parameters()) > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_reaches_its_goal(
    attacked: tuple[Normalized, Tensor, Tensor], norm: Norm, loss: AttackLoss
) -> None:
    model, images, labels = (part[:128] if isinstance(part, Tensor) else part for part in attacked)
    assert isinstance(model, Normalized)
    assert isinstance(images, Tensor)
    assert isinstance(labels, Tensor)
    eps = {"l2": 1.5, "linf": 0.3, "l1": 8.0, "l0": 10.0}[norm]
    # Steps of one pixel can carry the margin to and fro between two rivals; another start frees it.
    restarts = 1 if norm == "l1" else 0
    for targeted, aims in ((True, (labels + 1) % 10), (False, labels)):
        attack = Attack(norm=norm, eps=eps, steps=20, targeted=targeted, loss=loss, restarts=restarts)
        assert success(model, perturb(model, images, aims, attack), aims, targeted) > 0.8


@pytest.mark.parametrize("loss", LOSSES)
def test_restarts_keep_the_strongest(attacked: tuple[Normalized, Tensor, Tensor], loss: AttackLoss) -> None:
    model, images, labels = attacked
    aims = (labels + 1) % 10
    attack = Attack(eps=0.8, steps=8, loss=loss, precision="fp32")
    once, often = (
        perturb(model, images, aims, attack.model_copy(update={"restarts": restarts})) for restarts in (0, 4)
    )
    with torch.no_grad():
        hit, kept = reached(model(once), aims, True), reached(model(often), aims, True)
        losses = [objective(attack)(model(x), aims) for x in (once, often)]
    assert (kept | ~hit).all(), "a success is lost to a restart"
    assert (losses[1] <= losses[0] + 1e-5)[hit == kept].all()
    assert (losses[1] < losses[0]).float().mean() > 0.05


def test_restarts_tell_large_losses_apart() -> None:
    """No sigmoid does: of losses below -37 it makes exactly 1."""
    torch.manual_seed(0)
    last = torch.nn.Linear(8, 3)
    last.weight.data.mul_(10_000)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.Tanh(), last)
    images, aims = torch.rand(64, 1, 4, 4), torch.arange(64) % 3
    attack = Attack(eps=1, steps=2, step_size=0.1, loss="logit", precision="fp32")
    with torch.no_grad():
        logits = [
            network(perturb(network, images, aims, attack.model_copy(update={"restarts": restarts})))
            for restarts in (0, 8)
        ]
    hit = reached(logits[0], aims, True)
    losses = [objective(attack)(found, aims)[hit] for found in logits]
    assert losses[0].max() < -100
    assert (losses[1] <= losses[0]).all()
    assert (losses[1] < losses[0]).float().mean() > 0.5, "stronger attempts were not told from the first"


def test_images_stop_at_the_confidence(attacked: tuple[Normalized, Tensor, Tensor]) -> None:
    model, images, labels = attacked
    aims = (labels + 1) % 10
    attack = Attack(eps=1.5, steps=40, step_size=0.05, precision="fp32")
    stopped = perturb(model, images, aims, attack.model_copy(update={"stop_confidence": 0.7}))
    full = perturb(model, images, aims, attack)
    with torch.no_grad():
        confidence = model(stopped).softmax(1).gather(1, aims[:, None]).squeeze(1)
        everything = model(full).softmax(1).gather(1, aims[:, None]).squeeze(1)
    hit = everything >= 0.7
    assert (confidence[hit] >= 0.7).all()
    assert confidence[hit].mean() < everything[hit].mean()
    assert lengths("l2", images, stopped).mean() < 0.8 * lengths("l2", images, full).mean()
    assert torch.equal(stopped[~hit], full[~hit])


def test_the_step_descends_along_the_gradient_that_finite_differences_see() -> None:
    """In float64, on a smooth network: the first L2 step is the negative gradient at its length."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(36, 3)
    ).double()
    image, label = torch.rand((1, 1, 5, 5)).double() * 0.5 + 0.25, torch.tensor([2])
    for loss in LOSSES:
        attack = Attack(eps=1, steps=1, step_size=1e-3, loss=loss)
        value = objective(attack)
        with torch.no_grad():
            moved, _ = attack_step(network, attack)(image, torch.zeros_like(image), label)
            slope = torch.zeros_like(image)
            for place in range(image.numel()):
                nudge = torch.zeros_like(image)
                nudge.view(-1)[place] = 1e-6
                rise = value(network(image + nudge), label) - value(network(image - nudge), label)
                slope.view(-1)[place] = rise.item() / 2e-6
        assert torch.allclose(moved, -1e-3 * slope / slope.norm(), atol=1e-8)


@pytest.mark.slow
def test_neither_batches_nor_threads_nor_neighbours_show(attacked: tuple[Normalized, Tensor, Tensor]) -> None:
    model, images, labels = attacked
    images, aims = images[:150], (labels[:150] + 1) % 10
    attack = Attack(eps=0.8, steps=6, random_start=True, restarts=1, precision="fp32")
    whole = perturb(model, images, aims, attack, seed=3)
    threads = torch.get_num_threads()
    try:
        for number, cuts, tile in ((1, [1, 2, 37, 110], 64), (2, [128, 22], 16)):
            torch.set_num_threads(number)
            parts, engine = zip(images.split(cuts), aims.split(cuts), strict=True), Engine(tile=tile)
            first, pieces = 0, []
            for part, targets in parts:
                rows = range(first, first + len(part))
                pieces.append(perturb(model, part, targets, attack, seed=3, rows=rows, engine=engine))
                first += len(part)
            assert torch.equal(torch.cat(pieces), whole)
    finally:
        torch.set_num_threads(threads)
    assert not torch.equal(perturb(model, images, aims, attack, seed=4), whole)


FAST = {
    "folded": Engine(optimized=True),
    "compiled": Engine(optimized=True, compiled=True, tile=64),
    "bf16": Engine("bf16", optimized=True),
    "abreast": Engine("bf16", optimized=True, compiled=True, tile=32, abreast=16),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("error:the attack step is not compiled")
@pytest.mark.parametrize("engine", FAST.values(), ids=FAST.keys())
def test_fast_paths_are_as_strong_as_the_reference(
    attacked: tuple[Normalized, Tensor, Tensor], engine: Engine
) -> None:
    model, images, labels = attacked
    images, aims = images[:200], (labels[:200] + 1) % 10
    attack = Attack(eps=1.0, steps=12)
    reference = success(model, perturb(model, images, aims, attack, engine=REFERENCE), aims)
    fast = perturb(model, images, aims, attack, engine=engine)
    assert 0.3 < reference < 0.9
    assert abs(success(model, fast, aims) - reference) <= 0.01
    assert lengths("l2", images, fast).max() <= 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["folded", "bf16"])
def test_cuts_and_threads_hardly_show_on_fast_paths(
    attacked: tuple[Normalized, Tensor, Tensor], name: str
) -> None:
    """Here not at all: not a bit of an example; other processors' bf16 may round by the batch."""
    model, images, labels = attacked
    images, aims = images[:128], (labels[:128] + 1) % 10
    attack = Attack(eps=1.0, steps=6, random_start=True)
    hits, threads = [], torch.get_num_threads()
    try:
        for number, cuts, tile in ((1, [128], 128), (1, [1, 2, 37, 88], 64), (2, [64, 64], 16)):
            torch.set_num_threads(number)
            engine = replace(FAST[name], tile=tile)
            starts = np.cumsum([0, *cuts[:-1]])
            parts = zip(images.split(cuts), aims.split(cuts), starts, strict=True)
            found = [
                perturb(model, part, targets, attack, rows=range(first, first + len(part)), engine=engine)
                for part, targets, first in parts
            ]
            with torch.no_grad():
                hits.append(reached(model(torch.cat(found)), aims, True))
    finally:
        torch.set_num_threads(threads)
    assert 0.2 < hits[0].float().mean() < 0.9
    assert all((other != hits[0]).float().mean() <= 0.02 for other in hits[1:])


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("targeted", [True, False], ids=["targeted", "untargeted"])
def test_one_step_is_foolboxs(
    attacked: tuple[Normalized, Tensor, Tensor], norm: Norm, targeted: bool
) -> None:
    model, images, labels = attacked
    images, aims = images[:64], ((labels + 1) % 10 if targeted else labels)[:64]
    attack = Attack(norm=norm, eps=0.5, steps=1, step_size=0.1, targeted=targeted, precision="fp32")
    ours = perturb(model, images, aims, attack)
    peer = FOOLBOX[norm](abs_stepsize=0.1, steps=1, random_start=False)
    criterion = TargetedMisclassification if targeted else Misclassification
    _, theirs, _ = peer(
        PyTorchModel(model, bounds=(0, 1), device="cpu"), images, criterion(aims), epsilons=0.5
    )
    assert (ours - images).abs().amax() > 0.01
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("name", PEERS)
def test_one_targeted_step_is_every_peers(
    attacked: tuple[Normalized, Tensor, Tensor], name: str, norm: BallNorm
) -> None:
    for module in PEERS[name].modules:
        pytest.importorskip(module, reason="the extra bench is not installed", exc_type=ImportError)
    model, images, labels = attacked
    images, aims = images[:64], (labels[:64] + 1) % 10
    descent = Descent(norm=norm, eps=0.5, step_size=0.1, steps=1)
    theirs = PEERS[name].attack(copy.deepcopy(model), images.clone(), aims, descent)
    ours = perturb(model, images, aims, Attack(norm=norm, eps=0.5, steps=1, step_size=0.1, precision="fp32"))
    assert torch.allclose(ours, theirs, atol=1e-6)


def by_hand(norm: Norm, slope: NDArray[np.float64]) -> NDArray[np.float64]:
    """The step of length one down a slope, of one image that no bound of [0, 1] holds."""
    if norm == "l2":
        return np.asarray(-slope / np.sqrt((slope**2).sum()))
    if norm == "linf":
        return np.asarray(-np.sign(slope))
    count = 1 if norm == "l0" else round(0.01 * slope.size)
    steepest = np.argsort(-np.abs(slope), axis=None)[:count]
    step = np.zeros(slope.size)
    step[steepest] = -np.sign(slope.flat[steepest]) / count
    return step.reshape(slope.shape)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("norm", NORMS)
def test_one_step_is_the_formula(norm: Norm, loss: AttackLoss) -> None:
    """Of a linear network, whose gradient is known: l0 and l1 move the steepest values alone."""
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(3, 12, 5, 5))
    layer = torch.nn.Linear(300, 3, bias=False).double()
    layer.weight.data.copy_(torch.from_numpy(weights.reshape(3, -1)))
    network = torch.nn.Sequential(torch.nn.Flatten(), layer)
    image = 0.25 + generator.random((12, 5, 5)) / 2
    logits, label = (weights * image).sum((1, 2, 3)), 1
    chances = np.exp(logits - logits.max())
    chances /= chances.sum()
    rival = max((0, 2), key=lambda other: logits[other])
    slope = {
        "cross-entropy": np.tensordot(chances, weights, 1) - weights[label],
        "margin": weights[rival] - weights[label],
        "logit": -weights[label],
    }[loss]
    pixels = torch.from_numpy(image)[None]
    attack = Attack(norm=norm, eps=20 if norm in ("l2", "l1") else 1, steps=1, step_size=0.1, loss=loss)
    moved, _ = attack_step(network, attack)(pixels, torch.zeros_like(pixels), torch.tensor([label]))
    assert np.allclose(moved[0].numpy(), 0.1 * by_hand(norm, slope), atol=1e-12)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("repeatably", [True, False])
@pytest.mark.parametrize("engine", [REFERENCE, FAST["folded"]], ids=["reference", "optimized"])
def test_the_reference_repeats_itself_and_fast_paths_are_timed(
    engine: Engine, repeatably: bool, device: str
) -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(repeatably)
    try:
        with convolutions_for(engine, torch.device(device)):
            found = cudnn.deterministic, cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)
    timed = engine.optimized and not repeatably
    assert found == ((not timed, timed) if device == "cuda" else before)
    assert (cudnn.deterministic, cudnn.benchmark) == before


class Scaled(torch.nn.Module):
    """A network with a plain number and a plain tensor, which no state holds."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(16, 3)
        self.temperature, self.shift = 1.0, [torch.zeros(16)]

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images.flatten(1) + self.shift[0]) / self.temperature
        return logits


COMPILED = Engine(optimized=True, compiled=True, tile=2)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every step that would have been compiled."""
    seen: list[object] = []

    def compiled(step: Step, *_: object) -> Step:
        seen.append(step)
        return step

    monkeypatch.setattr(pgd, "_LAST_COMPILED", {})
    monkeypatch.setattr(pgd, "compile_step", compiled)
    return seen


def test_a_compiled_step_serves_its_network_alone(compilations: list[object]) -> None:
    network, images, aims = Scaled(), torch.rand(2, 1, 4, 4), torch.tensor([0, 1])

    def compiled(network: torch.nn.Module) -> int:
        perturb(network, images, aims, Attack(eps=1, steps=1), engine=COMPILED)
        return len(compilations)

    assert [compiled(network), compiled(network), compiled(copy.deepcopy(network))] == [1, 1, 1]
    network.temperature = 2.0
    assert [compiled(network), compiled(network)] == [2, 2]
    network.shift[0] += 1
    assert [compiled(network), compiled(network)] == [3, 3]
    network.layer.weight.data[0, 0] += 1
    assert [compiled(network), compiled(network)] == [4, 4]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "resnet9", "resnet18", "inception", "densenet"])
def test_a_model_that_is_read_again_is_not_compiled_again(
    name: ModelName, compilations: list[object]
) -> None:
    images, aims = torch.rand(2, 3, 16, 16), torch.tensor([0, 1])
    shape: dict[str, Any] = {"width": 8, "image_shape": [3, 16, 16], "classes": 3}
    stored = to_bytes(build(name, **shape), {"name": name, **shape})
    for _ in range(2):
        perturb(from_bytes(stored), images, aims, Attack(eps=1, steps=1), engine=COMPILED)
    assert len(compilations) == 1


def test_a_compiler_that_fails_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> Tensor:
        raise RuntimeError("no compiler\nand a long story")

    monkeypatch.setattr(pgd, "_LAST_COMPILED", {})
    monkeypatch.setattr(torch, "compile", lambda *_, **__: failing)
    network, images, aims = Scaled(), torch.rand(2, 1, 4, 4), torch.tensor([0, 1])
    attack = Attack(eps=1, steps=3)
    with pytest.warns(UserWarning, match=r"is not compiled \(RuntimeError: no compiler\)$"):
        found = perturb(network, images, aims, attack, engine=COMPILED)
    assert torch.allclose(found, perturb(network, images, aims, attack, engine=REFERENCE), atol=1e-6)
    with warnings.catch_warnings(action="error"):
        assert torch.equal(perturb(network, images, aims, attack, engine=COMPILED), found)


class Standardized(torch.nn.Module):
    """A user's own normalization, of images that hardly differ."""

    def forward(self, images: Tensor) -> Tensor:
        return (images - 0.9) / 0.01


def of_a_user(*inner: torch.nn.Module) -> torch.nn.Module:
    layers = (Standardized(), torch.nn.Conv2d(1, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
    return torch.nn.Sequential(*layers, *inner, torch.nn.Flatten(), torch.nn.Linear(8 * 36, 3)).eval()


@pytest.mark.parametrize(
    "network",
    [
        of_a_user(),
        of_a_user(torch.nn.LayerNorm([8, 6, 6]), torch.nn.PReLU(8)),
        of_a_user(torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv2d(8, 8, 1))),
    ],
    ids=["plain", "other layers", "weight norm"],
)
def test_bf16_begins_at_the_first_layer(network: torch.nn.Module) -> None:
    images = 0.88 + 0.04 * torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    engine = choose_engine(network, images[:1], "bf16", 1)
    assert engine.precision == "bf16"
    with torch.no_grad():
        exact, rounded = network(images), engine.prepare(network)(images)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() < 0.02 * exact.norm()


class Multiplied(torch.nn.Module):
    """A network that multiplies what a layer gives by weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.own = torch.nn.Linear(16, 8), torch.nn.Parameter(torch.rand(8, 3))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images.flatten(1)) @ self.own
        return logits


def test_a_network_that_bf16_does_not_fit_into_is_computed_in_fp32() -> None:
    network, images = Multiplied(), torch.rand(3, 1, 4, 4)
    assert choose_engine(network, images[:1], "bf16", 1).precision == "fp32"
    found = perturb(network, images, torch.tensor([0, 1, 2]), Attack(eps=1, steps=2, precision="bf16"))
    assert not torch.equal(found, images)


def test_the_reference_knows_no_autocast(attacked: tuple[Normalized, Tensor, Tensor]) -> None:
    model, images, labels = attacked[0], attacked[1][:32], attacked[2][:32]
    attack = Attack(eps=0.5, steps=2, targeted=False, restarts=1, precision="fp32")
    plain = perturb(model, images, labels, attack)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(perturb(model, images, labels, attack), plain)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_labels_of_any_integer_type_are_classes(dtype: torch.dtype) -> None:
    model = build("mlp", width=4, image_shape=(1, 4, 4), classes=3)
    images, labels = torch.rand(3, 1, 4, 4), torch.tensor([0, 1, 2])
    for loss in LOSSES:
        attack = Attack(eps=1, steps=2, loss=loss)
        assert torch.equal(
            perturb(model, images, labels.to(dtype), attack), perturb(model, images, labels, attack)
        )


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_small_balls_hold_more_than_their_centre(norm: Norm) -> None:
    generator = torch.Generator().manual_seed(0)
    images = 0.5 + torch.rand((50, 1, 4, 4), generator=generator) / 2
    wild = (images + torch.randn(images.shape, generator=generator)).clamp(0, 1)
    mended = within(images, wild, BALLS[norm], 2e-6)
    assert lengths(norm, images, mended).max() <= 2e-6
    assert (lengths(norm, images, mended) > 0).all()


@pytest.mark.parametrize("engine", [REFERENCE, FAST["folded"], FAST["compiled"]])
def test_batches_are_filled_up_to_few_shapes(engine: Engine) -> None:
    """A GPU's libraries choose kernels by the shape, which must not tell how many images there are."""
    on_cpu, on_gpu = (
        {engine.fill(rows, torch.device(name)) for rows in range(1, 1 + engine.tile)}
        for name in ("cpu", "cuda")
    )
    assert on_gpu == {engine.tile}
    assert on_cpu == ({engine.tile} if engine.compiled else set(range(ROW_MULTIPLE, 129, ROW_MULTIPLE)))


def test_weights_that_each_tile_packs_anew_see_large_tiles() -> None:
    """bf16 that is not compiled does that; compiled steps and fp32 stay near the caches."""
    model = build("resnet18", width=64, image_shape=(3, 32, 32), classes=10)
    image = torch.rand(1, 3, 32, 32)
    compiled = choose_engine(model, image, "bf16", image_steps=10**12)
    eager = choose_engine(model, image, "bf16", image_steps=1)
    reference = choose_engine(model, image, "fp32", image_steps=1)
    assert (compiled.compiled, eager.compiled) == (True, False)
    assert compiled.tile == reference.tile == 64
    assert eager.tile == 128


def test_a_flat_network_moves_nothing() -> None:
    model = build("mlp", width=4, image_shape=(1, 4, 4), classes=3)
    torch.nn.init.zeros_(model.network[-1].weight)  # type: ignore[index]
    images = torch.rand(5, 1, 4, 4)
    for norm in NORMS:
        for loss in LOSSES:
            attack = Attack(norm=norm, eps=1, steps=3, loss=loss)
            assert torch.equal(perturb(model, images, torch.tensor([0, 1, 2, 0, 1]), attack), images)


def test_one_image_and_one_class() -> None:
    model = build("cnn", width=4, image_shape=(1, 8, 8), classes=1)
    image = torch.rand(1, 1, 8, 8)
    for loss in LOSSES:
        adversarial = perturb(model, image, torch.tensor([0]), Attack(eps=1, steps=3, loss=loss))
        assert adversarial.isfinite().all()
        assert lengths("l2", image, adversarial).max() <= 1


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.full((2, 1, 4, 4), torch.nan), torch.tensor([0, 1]), "remove NaN"),
        (torch.full((2, 1, 4, 4), 255.0), torch.tensor([0, 1]), "scale pixels to"),
        (torch.zeros((2, 1, 4, 4), dtype=torch.uint8), torch.tensor([0, 1]), "divide uint8"),
        (torch.zeros(1, 4, 4), torch.tensor([0]), "not float32"),
        (torch.zeros(2, 1, 4, 4), torch.tensor([0]), "one integer for each of the 2"),
        (torch.zeros(2, 1, 4, 4), torch.tensor([0.0, 1.0]), "one integer for each"),
        (torch.zeros(2, 1, 4, 4), torch.tensor([0, 3]), "labels: 3 is not a class of a model that has 3"),
        (torch.zeros(2, 1, 4, 4), torch.tensor([-1, 0]), "labels: -1 is not a class"),
    ],
)
def test_what_cannot_be_attacked_is_refused(images: Tensor, labels: Tensor, message: str) -> None:
    model = build("mlp", width=4, image_shape=(1, 4, 4), classes=3)
    with pytest.raises(InputError, match=message):
        perturb(model, images, labels, Attack(eps=1, steps=1))


@pytest.mark.parametrize("fields", [{"eps": 0}, {"eps": -1}, {"norm": "l0", "eps": 1.5}, {"restarts": -1}])
def test_impossible_attacks_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Attack.model_validate({"eps": 1, "steps": 1} | fields)


def test_no_images_give_no_examples() -> None:
    model = build("mlp", width=4, image_shape=(1, 4, 4), classes=2)
    none = perturb(model, torch.empty(0, 1, 4, 4), torch.empty(0, dtype=torch.int64), Attack(eps=1, steps=1))
    assert none.shape == (0, 1, 4, 4)


def test_attacks_need_neither_ray_nor_prefect_nor_a_store() -> None:
    program = (
        "import sys, advfeat.attacks; "
        "print(*sorted({'ray', 'prefect', 's3fs', 'fsspec', 'pandas', 'sklearn'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet18", "inception", "densenet"])
def test_the_work_of_a_step_is_counted_as_torch_counts_it(name: ModelName) -> None:
    model = build(name, width=8, image_shape=(3, 32, 32), classes=10).eval().requires_grad_(False)
    image = torch.rand(1, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        model(image.requires_grad_()).sum().backward()
    assert step_flop(model, image) == pytest.approx(counter.get_total_flops(), rel=0.01)
