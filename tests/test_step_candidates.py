"""Other forms of the compiled step: what they compute, and how one of them is chosen."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode

from advfeat.attacks import Engine, perturb, pgd
from advfeat.attacks.fused_convolutions import CONVOLUTION_RELU, fuse_relus
from advfeat.attacks.pgd import attack_step
from advfeat.attacks.step_candidates import (
    CANDIDATES,
    PRESENT,
    try_candidate,
    with_weights_as_inputs,
)
from advfeat.attacks.step_choice import fastest_step
from advfeat.attacks.step_graph import Example, Step, trace_step
from advfeat.models import build
from advfeat.spec import Attack, ModelName

TILE = 4


def step_and_example(name: ModelName, size: int = 16) -> tuple[Step, Example]:
    torch.manual_seed(0)
    model = build(name, width=8, image_shape=(3, size, size), classes=10)
    with torch.no_grad():
        model.train()(torch.rand(8, 3, size, size))  # batch statistics that are not the initial ones
    step = attack_step(Engine(optimized=True).prepare(model), Attack(eps=1, steps=1))
    return step, example_of(size)(TILE)


def example_of(size: int) -> Callable[[int], Example]:
    def example(count: int) -> Example:
        generator = torch.Generator().manual_seed(0)
        images = torch.rand((count, 3, size, size), generator=generator)
        images = images.contiguous(memory_format=torch.channels_last)
        return images, torch.zeros_like(images), torch.arange(count) % 10

    return example


@pytest.mark.parametrize("spreading", [True, False], ids=["spread", "transposed"])
@pytest.mark.parametrize(
    ("name", "fused", "unfused"),
    [("cnn", 3, 0), ("resnet9", 8, 0), ("resnet18", 17, 0), ("vgg16_bn", 13, 0), ("densenet", 0, None)],
)
def test_relus_are_fused_with_the_convolutions_before_them(
    name: ModelName, fused: int, unfused: int | None, spreading: bool
) -> None:
    step, example = step_and_example(name, 32 if name == "vgg16_bn" else 16)
    traced = trace_step(step, example, spreading=spreading)
    found = fuse_relus(traced)
    assert found >= fused
    if unfused is not None:
        assert found == fused
        assert "relu_.default" not in traced.code
    weights = with_weights_as_inputs(traced)
    assert not traced.graph.find_nodes(op="get_attr")
    with torch.no_grad():
        (ours, moving), (plain, _) = traced(*weights, *example), step(*example)
    assert (ours - plain).norm() < 1e-4 * plain.norm()
    assert moving.all()


class Awkward(torch.nn.Module):
    """Convolutions whose relus must not be fused: others see their results, or they are not of images."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.bare = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 4, 1, bias=False)
        self.wide, self.last = torch.nn.Conv2d(4, 4, 3), torch.nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        seen = self.seen(images)
        bare = self.bare(seen.relu()).relu()
        wide = self.wide(bare + seen)
        summed = (wide + wide.mean((2, 3), keepdim=True)).relu()
        twice = self.wide(summed)
        logits: Tensor = self.last((twice + twice).relu().mean((2, 3)))
        return logits


def test_relus_that_others_depend_on_stay() -> None:
    torch.manual_seed(0)
    step = attack_step(Engine(optimized=True).prepare(Awkward()), Attack(eps=1, steps=1))
    images = torch.rand(TILE, 3, 9, 9)
    example = images, torch.zeros_like(images), torch.arange(TILE) % 3
    traced = trace_step(step, example)
    assert fuse_relus(traced) == 0
    with torch.no_grad():
        assert torch.equal(traced(*example)[0], step(*example)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_fused_convolution_has_the_layout_of_a_gpus(dtype: torch.dtype) -> None:
    with FakeTensorMode():
        images = torch.empty((2, 8, 9, 9), dtype=dtype, device="cuda").to(memory_format=torch.channels_last)
        weight, bias = (torch.empty(shape, dtype=dtype, device="cuda") for shape in ((16, 8, 3, 3), (16,)))
        made = CONVOLUTION_RELU(images, weight, bias, None, [2, 2], [1, 1], [1, 1], 1)
    assert (made.shape, made.dtype, made.device.type) == ((2, 16, 5, 5), dtype, "cuda")
    assert made.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fused relus", "fused relus, gradients not spread"])
def test_a_candidate_is_compiled_once_for_all_weights(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    counters.clear()
    for seed in range(2):
        torch._dynamo.reset()
        torch.manual_seed(seed)
        network = Engine(optimized=True).prepare(build("cnn", width=4, image_shape=(3, 8, 8), classes=10))
        step, example = attack_step(network, Attack(eps=1, steps=1)), example_of(8)(TILE)
        with torch.no_grad():
            timed, compiled = try_candidate(name, step, example)
            assert torch.allclose(compiled(*example)[0], step(*example)[0], atol=1e-4)
        assert (timed.problem, timed.alike) == ("", 1.0)
    assert counters["inductor"]["fxgraph_cache_miss"] == 1
    assert counters["inductor"]["fxgraph_cache_hit"] == 1


@pytest.fixture
def candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Forms that need no compiler; which were made, in order."""
    made: list[tuple[str, int]] = []

    def form(name: str, form: Callable[[Step], Step]) -> None:
        def candidate(step: Step, example: Example) -> tuple[Step, tuple[Tensor, ...]]:
            made.append((name, len(example[0])))
            formed = form(step)
            return formed, formed(*example)

        monkeypatch.setitem(CANDIDATES, name, candidate)

    def slowed(step: Step) -> Step:
        def slow(*given: Tensor) -> tuple[Tensor, ...]:
            time.sleep(0.02)
            return step(*given)

        return slow

    def reversed_(step: Step) -> Step:
        def elsewhere(*given: Tensor) -> tuple[Tensor, ...]:
            moved, *rest = step(*given)
            return -moved, *rest

        return elsewhere

    def failing(step: Step) -> Step:
        raise RuntimeError("no such kernel\nand a long story")

    form(PRESENT, slowed)
    form("fused relus", lambda step: step)
    form("fused relus, gradients not spread", reversed_)
    form("autotuned", failing)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    return made


def chosen(seconds: float, images: int = 16, kind: str = "of a test", largest: int = 8) -> tuple[str, int]:
    step, _ = step_and_example("cnn", 8)
    with torch.no_grad():
        found, tile = fastest_step(
            step,
            example_of(8),
            kind=kind,
            tile=TILE,
            largest_tile=largest,
            images=images,
            seconds=seconds,
        )
    return ("fused relus" if found is step else PRESENT), tile


def test_the_fastest_form_that_leads_where_the_step_does_is_chosen(
    candidates: list[tuple[str, int]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    name, tile = chosen(1000)
    assert name == "fused relus"
    others = [("fused relus, gradients not spread", tile), ("autotuned", tile)]
    assert candidates == [(PRESENT, TILE), ("fused relus", TILE), ("fused relus", 8), *others]
    assert "leads 100% of the images elsewhere" in caplog.text
    assert f"autotuned, tile {tile}: RuntimeError: no such kernel" in caplog.text
    assert "image-steps/s" in caplog.text


def test_what_was_found_is_not_tried_again(candidates: list[tuple[str, int]]) -> None:
    name, tile = chosen(1000)
    candidates.clear()
    assert chosen(1000) == (name, tile)
    assert candidates == [(name, tile)]
    candidates.clear()
    assert chosen(0, kind="of another network") == (PRESENT, TILE)
    assert candidates == [(PRESENT, TILE)]


def test_each_worker_tries_as_much_as_its_work_allows(candidates: list[tuple[str, int]]) -> None:
    assert chosen(0) == (PRESENT, TILE)
    assert chosen(0) == (PRESENT, TILE)
    assert candidates == [(PRESENT, TILE)] * 2
    assert chosen(30)[0] == "fused relus"
    assert "autotuned" not in {name for name, _ in candidates}


def test_notes_that_make_no_sense_are_as_none(candidates: list[tuple[str, int]], tmp_path: Path) -> None:
    chosen(0)
    (note,) = tmp_path.glob("advfeat/*.json")
    for text in ("", "[1]", "{}", '[{"name": "other"}]', note.read_text().replace(PRESENT, "other")):
        note.write_text(text)
        candidates.clear()
        assert chosen(0) == (PRESENT, TILE)
        assert candidates == [(PRESENT, TILE)]


def test_a_form_that_does_not_fit_the_memory_is_left_out(
    candidates: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> tuple[Step, tuple[Tensor, ...]]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setitem(CANDIDATES, "fused relus", too_large)
    assert chosen(1000)[0] == PRESENT
    monkeypatch.setitem(CANDIDATES, PRESENT, too_large)
    with pytest.raises(torch.OutOfMemoryError):
        chosen(1000, kind="of another network")


def test_an_attack_runs_the_chosen_form_with_its_tile(
    candidates: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pgd, "_LAST_COMPILED", {})
    images, _, labels = example_of(8)(30)
    model, attack = build("cnn", width=8, image_shape=(3, 8, 8), classes=10), Attack(eps=1, steps=2)
    plain = Engine(optimized=True, compiled=True, tile=TILE)
    engine = replace(plain, seconds_to_choose=30.0, largest_tile=8)
    found = perturb(model, images, labels, attack, engine=engine)
    assert torch.allclose(found, perturb(model, images, labels, attack), atol=1e-5)
    assert candidates[:2] == [(PRESENT, TILE), ("fused relus", TILE)]
    candidates.clear()
    assert torch.equal(perturb(model, images, labels, attack, engine=engine), found)
    assert not candidates


def test_nothing_is_timed_where_results_must_repeat_themselves(
    candidates: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Step] = []

    def plainly_compiled(step: Step, *_: object) -> Step:
        compiled.append(step)
        return step

    monkeypatch.setattr(pgd, "_LAST_COMPILED", {})
    monkeypatch.setattr(pgd, "compile_step", plainly_compiled)
    images, _, labels = example_of(8)(8)
    model = build("cnn", width=8, image_shape=(3, 8, 8), classes=10)
    engine = Engine(optimized=True, compiled=True, tile=TILE, seconds_to_choose=30.0, largest_tile=8)
    torch.use_deterministic_algorithms(True)
    try:
        perturb(model, images, labels, Attack(eps=1, steps=2), engine=engine)
    finally:
        torch.use_deterministic_algorithms(False)
    assert compiled
    assert not candidates
