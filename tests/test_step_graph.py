"""The step as one graph against the step as it is: gradients, images abreast, packed weights."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from advfeat.attacks import REFERENCE, Engine
from advfeat.attacks.objectives import goal_confidence
from advfeat.attacks.pgd import attack_step
from advfeat.attacks.schedules import AutoState, starting_state
from advfeat.attacks.step_graph import compile_step, trace_step
from advfeat.models import build
from advfeat.spec import LOSSES, Attack, AttackLoss, ModelName, Norm, StepSchedule

CONVOLUTION = torch.ops.aten.convolution.default
NORMS = get_args(Norm)


@pytest.mark.parametrize("stops", [True, False], ids=["stops", "goes on"])
@pytest.mark.parametrize("targeted", [True, False], ids=["targeted", "untargeted"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("norm", NORMS)
def test_a_traced_step_is_the_step(norm: Norm, loss: AttackLoss, targeted: bool, stops: bool) -> None:
    torch.manual_seed(0)
    network = REFERENCE.prepare(build("cnn", width=4, image_shape=(3, 8, 8), classes=3).double())
    images, labels = torch.rand(16, 3, 8, 8).double(), torch.arange(16) % 3
    with torch.no_grad():
        median = float(goal_confidence(network(images), labels, targeted).median())
    confidence = median if stops else None
    eps = 1 if norm == "linf" else 3  # no two pixels are further apart
    attack = Attack(norm=norm, eps=eps, steps=5, loss=loss, targeted=targeted, stop_confidence=confidence)
    step = attack_step(network, attack)
    example = (images, torch.zeros_like(images), labels)
    traced = trace_step(step, example)
    with torch.no_grad():
        eager, ours = step(*example), traced(*example)
    assert (eager[0] != 0).any()
    assert torch.allclose(ours[0], eager[0], atol=1e-9)
    assert torch.equal(ours[1], eager[1])
    assert ours[1].any()
    assert ours[1].all() == (not stops)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("schedule", ["cosine", "apgd"])
def test_a_traced_step_keeps_the_state_of_its_schedule(schedule: StepSchedule, norm: Norm) -> None:
    """Over all steps: Auto-PGD asks after 3, 5, 6, … of 10 steps whether to halve the length."""
    torch.manual_seed(0)
    network = REFERENCE.prepare(build("cnn", width=4, image_shape=(3, 8, 8), classes=3).double())
    images, labels = torch.rand(16, 3, 8, 8).double(), torch.arange(16) % 3
    attack = Attack(norm=norm, eps=0.5, steps=10, schedule=schedule)
    step, start = attack_step(network, attack), torch.zeros_like(images)
    state = starting_state(attack, start)
    traced = trace_step(step, (images, start, labels, *state))
    eager, ours = (start, *state), (start, *state)
    with torch.no_grad():
        for _ in range(attack.steps):
            wanted = step(images, eager[0], labels, *eager[1:])
            found = traced(images, ours[0], labels, *ours[1:])
            eager, ours = (wanted[0], *wanted[2:]), (found[0], *found[2:])
            assert torch.equal(found[1], wanted[1])
    assert all(torch.allclose(*pair, atol=1e-9) for pair in zip(ours, eager, strict=True))
    if schedule == "apgd":
        assert (AutoState(*ours[1:]).length < attack.step_length).any()


class Convolved(torch.nn.Module):
    """A network of convolutions of any dimension."""

    def __init__(self, convolution: torch.nn.Module, dimensions: int) -> None:
        super().__init__()
        self.convolution, self.last, self.dimensions = convolution, torch.nn.Linear(4, 3), dimensions

    def forward(self, images: Tensor) -> Tensor:
        shaped = images.flatten(2) if self.dimensions == 1 else images
        shaped = images.unsqueeze(2) if self.dimensions == 3 else shaped
        moved: Tensor = self.last(self.convolution(shaped).tanh().flatten(2).mean(2))
        return moved


@pytest.mark.parametrize(
    ("convolution", "dimensions"),
    [
        (torch.nn.Conv1d(3, 4, 3), 1),
        (torch.nn.Conv3d(3, 4, (1, 3, 3)), 3),
        (torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv2d(3, 4, 3)), 2),
    ],
    ids=["1-d", "3-d", "weight norm"],
)
def test_other_convolutions_are_traced_as_they_are(convolution: torch.nn.Module, dimensions: int) -> None:
    torch.manual_seed(0)
    network = Engine(optimized=True).prepare(Convolved(convolution, dimensions)).double()
    images = torch.rand(2, 3, 8, 8).double()
    example = (images, torch.zeros_like(images), torch.tensor([0, 2]))
    step = attack_step(network, Attack(eps=1, steps=1))
    with torch.no_grad():
        (plain, _), (ours, _) = step(*example), trace_step(step, example)(*example)
    assert (ours - plain).norm() < 1e-9 * plain.norm()


@pytest.mark.slow
@pytest.mark.parametrize("abreast", [1, 4])
@pytest.mark.parametrize("name", ["cnn", "resnet9", "resnet18", "vgg16_bn", "densenet", "inception"])
def test_input_gradients_as_convolutions_are_input_gradients(name: ModelName, abreast: int) -> None:
    """Of networks folded and traced, at an odd size, where strides do not divide the image."""
    torch.manual_seed(0)
    model = build(name, width=8, image_shape=(3, 29, 31), classes=10).double()
    images, labels = torch.rand(4, 3, 29, 31).double(), torch.tensor([3, 7, 0, 1])
    with torch.no_grad():
        model.train()(images)  # batch statistics that are not the initial ones
    attack = Attack(eps=1, steps=1)
    example = (images, torch.zeros_like(images), labels)
    with torch.no_grad():
        plain, _ = attack_step(REFERENCE.prepare(model), attack)(*example)
        step = attack_step(Engine(optimized=True).prepare(model), attack)
        traced = trace_step(step, example, abreast)
        ours, _ = traced(*example)
    assert "convolution_backward" not in traced.code
    assert (ours - plain).norm() < 1e-9 * plain.norm()
    rows = [
        node.meta["val"].shape[0] for node in traced.graph.find_nodes(op="call_function", target=CONVOLUTION)
    ]
    assert set(rows) == ({4} if abreast == 1 else {1, 4})


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@settings(max_examples=60, deadline=None)
@given(
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    width=st.integers(1, 18),
    count=st.sampled_from([1, 2, 4, 6]),
    rest=st.integers(0, 2),
)
def test_images_abreast_do_not_see_each_other(
    transposed: bool, kernel: int, stride: int, dilation: int, width: int, count: int, rest: int
) -> None:
    padding = dilation * (kernel - 1) // 2
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((count, 2, 3, width), generator=generator).double()
    weight = torch.rand((2, 2, kernel, kernel), generator=generator).double()

    def step(images: Tensor, bias: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        padded = [min(rest, stride - 1)] * 2 if transposed else [0, 0]
        settings = [stride] * 2, [padding] * 2, [dilation] * 2, transposed, padded, 1
        found = CONVOLUTION(images, weight, bias, *settings)
        return found, found

    example = images, torch.rand(2).double(), torch.zeros(0)
    alone, abreast = step(*example)[0], trace_step(step, example, 4)(*example)[0]
    assert torch.allclose(alone, abreast, atol=1e-12)


@pytest.mark.slow
def test_a_compiled_step_has_its_weights_packed() -> None:
    """A graph that took the weights as inputs would see them change."""
    network = REFERENCE.prepare(build("cnn", width=4, image_shape=(1, 8, 8), classes=3))
    images, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])
    example = images, torch.zeros_like(images), labels
    with torch.no_grad():
        step = attack_step(network, Attack(eps=1, steps=1))
        compiled = compile_step(step, example)
        before, _ = compiled(*example)
        assert torch.allclose(before, step(*example)[0], atol=1e-5)
        for parameter in network.parameters():
            parameter.neg_()
        assert torch.equal(compiled(*example)[0], before)
        assert not torch.allclose(step(*example)[0], before, atol=1e-2)
