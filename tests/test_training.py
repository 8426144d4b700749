"""Training: the same arguments give the same weights, any size of data trains, and nets come back whole."""

import random
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from advfeat import data, models
from advfeat.attacks import Engine, perturb
from advfeat.errors import DamagedArtifactError
from advfeat.evaluation import predict
from advfeat.hardware import has_bf16
from advfeat.models import as_pixels
from advfeat.planning import load_experiment
from advfeat.spec import Attack, ModelName, TrainSpec, UntargetedAttack
from advfeat.training import TrainingSet, fit, fitting, shape_arguments, windows
from advfeat.training.augmentation import FlipAndShift, draw_movements


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    train = data.load(load_experiment("digits").data).train
    return torch.from_numpy(train.images), torch.from_numpy(train.labels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "epochs", "learning_rate"),
    [("mlp", 12, 0.05), ("cnn", 5, 0.05), ("resnet9", 5, 0.05), ("resnet18", 5, 0.02)],
)
def test_every_architecture_learns_and_survives_storage(
    digits: tuple[Tensor, Tensor], model: ModelName, epochs: int, learning_rate: float
) -> None:
    images, labels = digits[0][:400], digits[1][:400]
    spec = TrainSpec(model=model, width=8, epochs=epochs, learning_rate=learning_rate)
    trained = fit(TrainingSet.in_memory(images, labels), spec, classes=10, seed=0)
    predictions = predict(trained, images)
    assert (predictions == labels.numpy()).mean() > 0.8
    stored = models.to_bytes(trained, {"name": model, **shape_arguments((1, 8, 8), spec, 10)})
    assert (predict(models.from_bytes(stored), images) == predictions).all()


def test_seeds_decide_the_weights(digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits[0][:128], digits[1][:128]
    spec = TrainSpec(width=4, epochs=1, augmentation="flip-crop")

    def weights(seed: int) -> dict[str, Tensor]:
        return dict(fit(TrainingSet.in_memory(images, labels), spec, classes=10, seed=seed).state_dict())

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["network.0.0.weight"], other["network.0.0.weight"])


@pytest.mark.parametrize("count", [2, 3, 5, 65, 129])
@pytest.mark.parametrize("epochs", [1, 2])
def test_any_number_of_images_trains(digits: tuple[Tensor, Tensor], count: int, epochs: int) -> None:
    progress: list[tuple[int, int]] = []
    fit(
        TrainingSet.in_memory(digits[0][:count], digits[1][:count]),
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
        fit(TrainingSet.in_memory(images, labels), spec, classes=2, seed=0)


def test_augmentation_only_moves_pixels() -> None:
    images = torch.rand(50, 3, 8, 8)
    movements = draw_movements(50, 8, torch.Generator().manual_seed(0))
    moved = FlipAndShift(images).moved(torch.arange(50), movements)
    assert moved.shape == images.shape
    assert not torch.equal(moved, images)
    for before, after in zip(images, moved, strict=True):
        assert set(after.flatten().tolist()) <= set(before.flatten().tolist()) | {0.0}


def test_flips_and_shifts_are_what_slicing_gives() -> None:
    images = torch.randint(0, 256, (3, 2, 8, 8), dtype=torch.uint8)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    allowed = [
        part if not flipped else part.flip(2)
        for down in range(3)
        for right in range(3)
        for flipped in (False, True)
        for part in [padded[1, :, down : down + 8, right : right + 8]]
    ]
    movements = draw_movements(300, 8, torch.Generator().manual_seed(0))
    moved = FlipAndShift(images).moved(torch.ones(300, dtype=torch.int64), movements)
    assert moved.dtype == torch.uint8
    seen = {next(n for n, one in enumerate(allowed) if torch.equal(one, image)) for image in moved}
    assert len(seen) == len(allowed)


class Memory:
    """A checkpoint in memory; it can end a training as a killed worker would."""

    seconds_between = 0.0

    def __init__(self, dies_after: int) -> None:
        self.content: bytes | None = None
        self.saved, self.dies_after = 0, dies_after

    def load(self) -> bytes | None:
        return self.content

    def save(self, content: bytes) -> None:
        self.content = content
        self.saved += 1
        if self.saved == self.dies_after:
            raise KeyboardInterrupt


RESUMED: dict[str, dict[str, object]] = {
    "plain": {},
    "augmented, averaged, triangular": {
        "augmentation": "flip-crop",
        "ema_decay": 0.9,
        "schedule": "triangular",
        "label_smoothing": 0.1,
    },
    "adversarial": {"adversarial": {"eps": 0.5, "steps": 2, "random_start": True}},
    "without momentum": {"momentum": 0, "ema_decay": 0.5},
}


Kernels = Callable[[], None]


def recorded(kernels: Kernels) -> Kernels:
    """Record as a GPU does, which computes a few times before: here what is launched again runs again."""
    for _ in range(2):
        kernels()
    return kernels


def replay(monkeypatch: pytest.MonkeyPatch, record: Callable[[Kernels], Kernels] = recorded) -> None:
    """Let trainings on the CPU replay their steps, as those on a GPU do."""
    monkeypatch.setattr(fitting, "_recorder", lambda *_: record)


@pytest.mark.parametrize("replayed", [False, True], ids=["launched", "replayed"])
@pytest.mark.parametrize("fields", RESUMED.values(), ids=RESUMED.keys())
def test_an_interrupted_training_ends_with_the_same_weights(
    digits: tuple[Tensor, Tensor],
    fields: dict[str, object],
    replayed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if replayed:
        replay(monkeypatch)
    images = TrainingSet.in_memory(digits[0][:200], digits[1][:200])
    spec = TrainSpec.model_validate({"width": 4, "epochs": 4} | fields)
    whole_losses: list[float] = []
    whole = fit(images, spec, classes=10, seed=0, losses=whole_losses).state_dict()
    memory = Memory(dies_after=2)
    with pytest.raises(KeyboardInterrupt):
        fit(images, spec, classes=10, seed=0, checkpoint=memory)
    seen: list[int] = []
    losses: list[float] = []
    resumed = fit(
        images,
        spec,
        classes=10,
        seed=0,
        checkpoint=memory,
        progress=lambda done, _: seen.append(done),
        losses=losses,
    ).state_dict()
    assert min(seen) > 400, "the first two epochs were trained again"
    assert losses == whole_losses
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("fields", RESUMED.values(), ids=RESUMED.keys())
@pytest.mark.parametrize("soft", [False, True])
def test_replayed_steps_teach_what_launched_ones_do(
    digits: tuple[Tensor, Tensor], fields: dict[str, object], soft: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same but for rounding: the optimizer's kernels are others. A last batch of 8 is never replayed."""
    images, labels = digits[0][:200], digits[1][:200]
    labels = torch.nn.functional.one_hot(labels, 10) * 0.9 + 0.01 if soft else labels
    spec = TrainSpec.model_validate({"width": 4, "epochs": 3} | fields)
    training = TrainingSet.in_memory(images, labels)
    launches: list[None] = []
    launched: list[float] = []
    replayed: list[float] = []
    wanted = fit(training, spec, classes=10, seed=0, losses=launched).state_dict()

    def counted(kernels: Kernels) -> Kernels:
        again = recorded(kernels)

        def launch() -> None:
            launches.append(None)
            again()

        return launch

    replay(monkeypatch, counted)
    found = fit(training, spec, classes=10, seed=0, losses=replayed).state_dict()
    compared, whole_batches_after_the_first = 3, 3 * 3 - 1
    assert len(launches) == compared + whole_batches_after_the_first
    assert replayed == pytest.approx(launched, rel=1e-5)
    for name in wanted:
        assert torch.allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5), name


OWN_NETWORKS = {
    "draws random numbers on the CPU": "torch.nn.functional.dropout(logits, 0.1, self.training)",
    "draws random numbers on the CPU (2)": "logits * (1 + random.random() / 10)",
    "sets network.calls": "self.counted(logits)",
    "sets network.scale": "self.rescaled(logits)",
}


@pytest.mark.parametrize(("problem", "returned"), OWN_NETWORKS.items(), ids=OWN_NETWORKS.keys())
def test_a_network_that_leaves_work_to_python_is_not_replayed(
    problem: str, returned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.py").write_text(
        "import random\nimport torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, classes):\n"
        "        super().__init__()\n"
        "        self.linear, self.calls = torch.nn.Linear(64, classes), [0]\n"
        "        self.register_buffer('scale', torch.ones(()))\n"
        "    def counted(self, logits):\n"
        "        self.calls[0] += 1\n"
        "        return logits / self.calls[0]\n"
        "    def rescaled(self, logits):\n"
        "        self.scale = 0.9 * self.scale\n"
        "        return logits * self.scale\n"
        "    def forward(self, images):\n"
        "        logits = self.linear(images.flatten(1))\n"
        f"        return {returned} if self.training else logits\n"
        "def make(classes):\n"
        "    return Net(classes)\n"
    )
    images = TrainingSet.in_memory(torch.rand(200, 1, 8, 8), torch.arange(200) % 10)
    spec = TrainSpec(model=f"{tmp_path}/net.py:make", epochs=2)
    random.seed(0)
    launched = fit(images, spec, classes=10, seed=0).state_dict()
    replay(monkeypatch)
    random.seed(0)
    with pytest.warns(UserWarning, match=re.escape(problem.removesuffix(" (2)"))):
        fallen_back = fit(images, spec, classes=10, seed=0).state_dict()
    assert all(torch.equal(fallen_back[name], launched[name]) for name in launched)


def nothing(kernels: Kernels) -> Kernels:
    kernels()
    return lambda: None


def failing(kernels: Kernels) -> Kernels:
    kernels()
    raise RuntimeError("no memory left\nfor a graph")


RECORDERS: dict[str, Callable[[Kernels], Kernels]] = {
    "replayed, its weights would change otherwise": nothing,
    "RuntimeError: no memory left)": failing,
}


@pytest.mark.parametrize(("problem", "record"), RECORDERS.items(), ids=["frozen", "failing"])
def test_a_step_that_is_not_recorded_well_is_not_replayed(
    digits: tuple[Tensor, Tensor],
    problem: str,
    record: Callable[[Kernels], Kernels],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, spec = TrainingSet.in_memory(digits[0][:200], digits[1][:200]), TrainSpec(width=4, epochs=2)
    launched = fit(images, spec, classes=10, seed=0).state_dict()
    replay(monkeypatch, record)
    with pytest.warns(UserWarning, match=re.escape(problem)) as told:
        fallen_back = fit(images, spec, classes=10, seed=0).state_dict()
    assert len(told) == 1
    assert all(torch.equal(fallen_back[name], launched[name]) for name in launched)


@pytest.mark.parametrize("damage", ["other data", "other seed", "torn"])
def test_a_checkpoint_of_another_training_is_not_used(digits: tuple[Tensor, Tensor], damage: str) -> None:
    images, labels = digits[0][:100], digits[1][:100]
    spec = TrainSpec(width=4, epochs=2)
    memory = Memory(dies_after=1)
    with pytest.raises(KeyboardInterrupt):
        fit(TrainingSet.in_memory(images, labels), spec, classes=10, seed=0, checkpoint=memory)
    assert memory.content is not None
    seed = 0
    if damage == "other data":
        images = images.flip(0)
    elif damage == "other seed":
        seed = 1
    else:
        memory.content = memory.content[:-100] + bytes(100)
    data = TrainingSet.in_memory(images, labels)
    alone = fit(data, spec, classes=10, seed=seed).state_dict()
    beside = fit(data, spec, classes=10, seed=seed, checkpoint=memory).state_dict()
    assert all(torch.equal(alone[name], beside[name]) for name in alone)


@pytest.mark.slow
def test_adversarial_training_makes_robust_models(digits: tuple[Tensor, Tensor]) -> None:
    test = data.load(load_experiment("digits").data).test
    images, labels = as_pixels(torch.from_numpy(test.images)), torch.from_numpy(test.labels)
    plain = TrainSpec(width=16, epochs=8)
    robust = plain.model_copy(
        update={"adversarial": UntargetedAttack(eps=0.8, steps=4, step_size=0.3, random_start=True)}
    )
    accuracy = {}
    for name, spec in (("plain", plain), ("robust", robust)):
        model = fit(TrainingSet.in_memory(*digits), spec, classes=10, seed=0)
        adversarial = perturb(model, images, labels, Attack(eps=0.8, steps=20, targeted=False))
        accuracy[name] = (predict(model, adversarial) == test.labels).mean()
        assert (predict(model, images) == test.labels).mean() > 0.95
    assert accuracy["robust"] > accuracy["plain"] + 0.2


def test_bf16_trains_as_well(digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits[0][:400], digits[1][:400]
    accuracy = {}
    for precision in ("bf16", "fp32"):
        spec = TrainSpec(width=8, epochs=3, learning_rate=0.05, precision=precision)
        trained = fit(TrainingSet.in_memory(images, labels), spec, classes=10, seed=0)
        accuracy[precision] = (predict(trained, images) == labels.numpy()).mean()
    assert accuracy["fp32"] > 0.7
    assert abs(accuracy["bf16"] - accuracy["fp32"]) < 0.1


def test_bf16_trains_adversarially_as_well(
    digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every weight learns in every step: the attack leaves no rounded weight without a gradient behind."""
    if not has_bf16(torch.device("cpu")):
        pytest.skip("bf16 is emulated here, hundreds of times slower")
    learned: list[bool] = []
    take_step = torch.optim.SGD.step

    def step(optimizer: torch.optim.SGD) -> None:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        learned.append(all(weight.grad is not None and weight.grad.any() for weight in weights))
        take_step(optimizer)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    images, labels = digits[0][:400], digits[1][:400]
    attack = UntargetedAttack(eps=0.5, steps=2, step_size=0.3, random_start=True)
    accuracy = {}
    for precision in ("bf16", "fp32"):
        spec = TrainSpec(
            model="resnet9", width=8, epochs=6, batch_size=32, precision=precision, adversarial=attack
        )
        trained = fit(TrainingSet.in_memory(images, labels), spec, classes=10, seed=0)
        attacked = perturb(trained, as_pixels(images), labels, attack, seed=1)
        accuracy[precision] = (predict(trained, attacked) == labels.numpy()).mean()
    assert learned
    assert all(learned)
    assert accuracy["fp32"] > 0.5
    assert abs(accuracy["bf16"] - accuracy["fp32"]) < 0.1


def test_adversarial_training_attacks_in_the_precision_of_its_attack(
    digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def watched(*given: Any, engine: Engine, **named: Any) -> Tensor:
        seen.append(engine.precision)
        return perturb(*given, engine=engine, **named)

    monkeypatch.setattr(fitting, "perturb", watched)
    images = TrainingSet.in_memory(digits[0][:32], digits[1][:32])
    for trained, attacked in (("bf16", "auto"), ("bf16", "fp32"), ("fp32", "auto"), ("fp32", "bf16")):
        attack = UntargetedAttack(eps=0.5, steps=1, precision=attacked)
        spec = TrainSpec(width=4, epochs=1, batch_size=32, precision=trained, adversarial=attack)
        fit(images, spec, classes=10, seed=0)
    assert seen == ["bf16", "fp32", "fp32", "bf16"]


@pytest.mark.parametrize("before", [True, False])
def test_a_training_leaves_the_process_as_it_was(digits: tuple[Tensor, Tensor], before: bool) -> None:
    images, spec = TrainingSet.in_memory(digits[0][:32], digits[1][:32]), TrainSpec(width=4, epochs=2)
    found: list[tuple[bool, bool]] = []

    def flags() -> tuple[bool, bool]:
        memory: Any = torch.utils.deterministic
        return torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory

    torch.use_deterministic_algorithms(before)
    try:
        fit(images, spec, classes=10, seed=0, progress=lambda *_: found.append(flags()))
        found.append(flags())
        with pytest.raises(KeyboardInterrupt):
            fit(images, spec, classes=10, seed=0, checkpoint=Memory(dies_after=1))
        found.append(flags())
    finally:
        torch.use_deterministic_algorithms(False)
    assert found == [(True, False), (True, False), (before, True), (before, True)]


def test_windows_go_where_their_reader_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that reads ahead has a current GPU of its own: the first one."""
    reader = threading.get_ident()
    monkeypatch.setattr(
        windows,
        "device",
        lambda: torch.device("cpu" if threading.get_ident() == reader else "meta"),
    )
    images = TrainingSet.in_memory(torch.rand(4, 1, 2, 2), torch.arange(4))
    assert [window.images.device.type for window in images.stream(images.in_order())] == ["cpu"]


def test_the_momentum_asked_for_is_used(digits: tuple[Tensor, Tensor]) -> None:
    images = TrainingSet.in_memory(digits[0][:100], digits[1][:100])
    weights = [
        fit(images, TrainSpec(width=4, epochs=1, momentum=momentum), classes=10, seed=0).state_dict()
        for momentum in (0.5, 0.9)
    ]
    assert not torch.equal(weights[0]["network.0.0.weight"], weights[1]["network.0.0.weight"])


PICKLE, NO_HEADER = b"\x80\x04K\x01.", b"\x08" + bytes(7) + b"{}      "


@pytest.mark.parametrize("content", [b"", PICKLE, NO_HEADER, bytes(100)])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(DamagedArtifactError):
        models.from_bytes(content)
