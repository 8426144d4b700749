"""Targeted projected gradient descent: advfeat and its peers on the same network, images and targets.

A ResNet-18 for small images is trained by ``advfeat.training.fit``; test images are moved towards
another class drawn at random. advfeat runs three times: as it chooses for this amount of work; as it
chooses for work without end, compiled where a compiler is there, in its first call; and on its float32
reference path. Every peer that is installed runs once. All do so in this process, in rounds in which
they alternate. advfeat is given all images in one call and tiles them itself, the peers a batch a call.
With ``--candidates advfeat`` it runs alone and once, as it chooses: for work that would take peers hours.

The rate is that of the median round's whole call, and the share of the peak is that rate's. advfeat
prepares the network in every call; the rate after set-up is what is left from the end of the first tile
on, and what longer work comes near to. The very first call, with what it compiles, is reported apart and
not counted.

Success is the share of images that the network, in float32 on the CPU and without any attack's code,
puts into the target class; it and the largest norm show that all do the same work. The arithmetic is
counted by torch's ``FlopCounterMode`` for one forward pass and one gradient with respect to the
images, and set against the matrix-product peak that ``machine.py`` measures before and after the
rounds. Working memory is the peak of a second call above what was in use before it, plus, on a GPU,
what a candidate keeps between calls.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from advfeat.hardware import device
from advfeat.models import as_pixels
from advfeat.spec import DataSpec, ModelName, Spec, TrainSpec
from benchmarks import machine, measure
from benchmarks.peers import PEERS, BallNorm, Descent, PeerAttack
from benchmarks.table import Table, figure, mebibytes, percent
from benchmarks.workload import (
    Images,
    Judge,
    engine_for_long_work,
    load_images,
    other_classes,
    perturbed,
    repeated,
    trained,
)


class Settings(Spec):
    """What is attacked, and how."""

    model: ModelName = Field(default="resnet18", description="architecture under attack")
    width: int = Field(default=32, ge=4, description="channels of its first layer; resnet18 has its own, 64")
    image_size: int = Field(default=32, ge=8, description="pixels a side")
    epochs: int = Field(default=3, ge=1, description="passes over the training images")
    norm: BallNorm = Field(default="l2", description="norm of the ball")
    eps: float = Field(default=0.5, gt=0, description="radius of the ball")
    step_size: float | None = Field(
        default=None, gt=0, description="length of a step; 2.5 * eps / steps if unset"
    )
    steps: int = Field(default=10, ge=1, description="gradient steps")
    attacked: int | None = Field(
        default=None,
        ge=2,
        description="images attacked; else two batches (4,096 on a GPU), at least two of advfeat's tiles",
    )
    batch: int | None = Field(
        default=None,
        ge=1,
        description="images a call of a peer; else 128, on a GPU as many as advfeat's tile",
    )
    candidates: Literal["all", "advfeat"] = Field(
        default="all", description="all, or advfeat alone, as it chooses for this work"
    )
    rounds: int = Field(default=5, ge=1, description="rounds that are counted")


_TRAINING_BATCH = 32
_LEARNING_RATE = 0.02
"""Both small, for few images and few epochs."""

QUICK = Settings(image_size=16, epochs=3, eps=1, steps=4, attacked=128, batch=64)


class Row(Spec):
    """What one candidate reached."""

    name: str
    image_steps_per_second: float
    slowest: float
    fastest: float
    after_setup: float | None
    first_call_seconds: float
    success: float
    largest_norm: float
    working_memory_bytes: int | None
    shares_of_peak: dict[machine.Precision, float]


class Figures(Spec):
    """All candidates, and the work they were given."""

    settings: Settings
    source: str
    training_images: int
    attacked_images: int
    step_size: float
    accuracy: float
    taken_for_target_before: float
    flops_per_image_step: float
    peaks: machine.Peaks
    rows: tuple[Row, ...]
    absent: dict[str, str]

    def tables(self) -> list[Table]:
        """Return the figures as tables."""
        return [self._speed(), self._work()]

    def _speed(self) -> Table:
        settings, peaks = self.settings, self.peaks.flops_per_second
        ours = self.rows[0].image_steps_per_second
        known = [f"{name} {figure(peak / 1e9)} GFLOP/s" for name, peak in peaks.items()]
        return Table(
            title=f"Targeted {settings.norm} attack on {settings.model}: speed",
            columns=(
                "",
                "image-steps/s",
                "a call, s",
                "slowest to fastest round",
                "relative",
                "after set-up",
                *(f"of {name} peak" for name in peaks),
                "first call, s",
            ),
            rows=tuple(
                (
                    row.name,
                    figure(row.image_steps_per_second),
                    figure(self.attacked_images * settings.steps / row.image_steps_per_second),
                    f"{figure(row.slowest)} to {figure(row.fastest)}",
                    f"{row.image_steps_per_second / ours:.2f}",
                    "" if row.after_setup is None else figure(row.after_setup),
                    *(percent(row.shares_of_peak[name]) for name in peaks),
                    figure(row.first_call_seconds),
                )
                for row in self.rows
            ),
            note=f"{self.attacked_images:,} images of {settings.image_size} pixels a side, {settings.steps} "
            f"steps, batch {settings.batch}; median of {settings.rounds} alternating rounds; "
            f"{figure(self.flops_per_image_step / 1e9)} GFLOP per image and step; peak: {', '.join(known)}; "
            "its share is that of whole calls."
            + "".join(f" {name}: {reason}." for name, reason in self.absent.items()),
        )

    def _work(self) -> Table:
        settings = self.settings
        return Table(
            title=f"Targeted {settings.norm} attack on {settings.model}: what was reached",
            columns=("", "success", f"largest {settings.norm} norm", "working memory, MiB"),
            rows=tuple(
                (
                    row.name,
                    percent(row.success),
                    f"{row.largest_norm:.7f}",
                    mebibytes(row.working_memory_bytes),
                )
                for row in self.rows
            ),
            note=f"eps {figure(settings.eps)}, step {figure(self.step_size)}; network trained on "
            f"{self.training_images:,} images of {self.source} for {settings.epochs} epochs, test accuracy "
            f"{percent(self.accuracy)}; {percent(self.taken_for_target_before)} of the images were taken "
            "for the target class before the attack.",
        )


@dataclass(frozen=True)
class Work:
    """What every candidate is given."""

    settings: Settings
    model: nn.Module
    images: Tensor
    targets: Tensor

    @property
    def step_size(self) -> float:
        """The length of one step, given or derived as in ``advfeat.spec.Attack``."""
        return self.settings.step_size or 2.5 * self.settings.eps / self.settings.steps

    def handed_over(self) -> nn.Module:
        """Return the network as a user would hand it over: in evaluation mode, nothing frozen."""
        self.model.eval().requires_grad_(True).zero_grad(set_to_none=True)
        return self.model

    def descent(self, steps: int) -> Descent:
        """Return what an attack wants to know besides network, images and targets."""
        return Descent(norm=self.settings.norm, eps=self.settings.eps, step_size=self.step_size, steps=steps)

    def largest_norm(self, adversarial: Tensor) -> float:
        """Return the longest perturbation, in float64."""
        changes = (adversarial.cpu().double() - self.images.cpu().double()).flatten(1)
        order = 2 if self.settings.norm == "l2" else torch.inf
        return float(torch.linalg.vector_norm(changes, ord=order, dim=1).max())


class Candidate(Protocol):
    """Something that attacks."""

    def __call__(self, work: Work, steps: int) -> Tensor:
        """Return the adversarial examples of the work's images."""


@dataclass(frozen=True)
class Advfeat:
    """advfeat with a choice of its own, and the rates after set-up of all its calls so far."""

    choice: dict[str, Any] = field(default_factory=dict)
    rates: list[float | None] = field(default_factory=list)

    def __call__(self, work: Work, steps: int) -> Tensor:
        """Attack all images in one call."""
        laps = measure.Laps(1, device())
        adversarial = perturbed(
            work.handed_over(),
            work.images,
            work.targets,
            **vars(work.descent(steps)),
            **self.choice,
            progress=laps,
        )
        laps.finish()
        self.rates.append(None if laps.rate is None else laps.rate * steps)
        return adversarial


@dataclass(frozen=True)
class Batched:
    """A peer, given a batch a call."""

    attack: PeerAttack

    def __call__(self, work: Work, steps: int) -> Tensor:
        """Attack all images, batch by batch."""
        model, descent = work.handed_over(), work.descent(steps)
        batch = work.settings.batch
        batches = zip(work.images.split(batch), work.targets.split(batch), strict=True)
        return torch.cat([self.attack(model, images, targets, descent) for images, targets in batches])


@dataclass(frozen=True)
class FirstCall:
    """What is learnt from a candidate before the rounds."""

    seconds: float
    second_seconds: float
    success: float
    largest_norm: float
    working_memory_bytes: int | None


def run(settings: Settings, data: DataSpec, *, quick: bool, say: Callable[[str], None]) -> Figures:
    """Train the network, then measure every candidate."""
    loaded = load_images(data, size=settings.image_size, channels=3)
    say(f"training {settings.model} on {len(loaded.train):,} images")
    spec = TrainSpec(
        model=settings.model,
        width=settings.width,
        epochs=settings.epochs,
        batch_size=_TRAINING_BATCH,
        learning_rate=_LEARNING_RATE,
        threads=torch.get_num_threads(),
    )
    model = trained(loaded, spec)
    source = data.source.partition(":")[0]
    return compared(settings, model, loaded, source, judge=Judge(model), quick=quick, say=say)


def compared(
    settings: Settings,
    model: nn.Module,
    loaded: Images,
    source: str,
    *,
    judge: Judge,
    quick: bool,
    say: Callable[[str], None],
    keep: Callable[[Figures], None] = lambda _: None,
    enough_time: Callable[[], bool] = lambda: True,
    long_work: bool = True,
    known_peaks: machine.Peaks | None = None,
) -> Figures:
    """Measure every candidate on a trained network.

    ``keep`` is told the figures after every candidate's first calls, whose rates are those of the second
    one, then after every round. Peers that are not reached while there is ``enough_time`` are left out.
    Without ``long_work`` nothing is compiled that this work does not pay for. ``known_peaks`` are measured
    here if unset.
    """
    where = device()
    tile = engine_for_long_work(model, as_pixels(loaded.test[:1])).tile
    batch = settings.batch or (tile if where.type == "cuda" else 128)
    settings = settings.model_copy(update={"batch": batch})
    least = max(4096 if where.type == "cuda" else 2 * batch, 2 * tile)
    count = settings.attacked or least
    labels = repeated(loaded.test_labels, count)
    work = Work(
        settings=settings,
        model=model,
        images=as_pixels(repeated(loaded.test, count)).to(where),
        targets=other_classes(labels, len(loaded.classes)).to(where),
    )
    flops = flops_per_image_step(work.handed_over(), work.images[:8], work.targets[:8])
    peaks = known_peaks or machine.measure_peaks(where, quick=quick)
    accuracy = judge.agreement(as_pixels(loaded.test), loaded.test_labels)
    taken_before = judge.agreement(work.images, work.targets)
    candidates: dict[str, Candidate] = {}
    first_calls: dict[str, FirstCall] = {}
    absent: dict[str, str] = {}
    rounds: list[dict[str, float]] = []

    def figures() -> Figures:
        return Figures(
            settings=settings.model_copy(update={"rounds": len(rounds)}),
            source=source,
            training_images=len(loaded.train),
            attacked_images=count,
            step_size=work.step_size,
            accuracy=accuracy,
            taken_for_target_before=taken_before,
            flops_per_image_step=flops,
            peaks=peaks,
            rows=tuple(
                _row(name, first_calls[name], seconds_of(name), candidate, work, flops, peaks)
                for name, candidate in candidates.items()
            ),
            absent=absent,
        )

    def seconds_of(name: str) -> list[float]:
        return [one[name] for one in rounds] or [first_calls[name].second_seconds]

    for name, candidate, first in _able(work, judge, say, enough_time, long_work, absent):
        candidates[name], first_calls[name] = candidate, first
        keep(figures())
    calls = {name: partial(candidate, work, settings.steps) for name, candidate in candidates.items()}
    for one in measure.alternate(calls, settings.rounds, where):
        rounds.append(one)
        say(f"round {len(rounds)} of {settings.rounds}")
        keep(figures())
    if known_peaks is None:
        peaks = peaks.best_with(machine.measure_peaks(where, quick=quick))
    return figures()


def flops_per_image_step(model: nn.Module, images: Tensor, targets: Tensor) -> float:
    """Count the operations of one forward pass and one input gradient, with frozen parameters."""
    model.requires_grad_(False)
    candidate = images.clone().requires_grad_()
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(candidate), targets, reduction="sum").backward()
    model.requires_grad_(True)
    return float(counter.get_total_flops()) / len(images)


def _able(
    work: Work,
    judge: Judge,
    say: Callable[[str], None],
    enough_time: Callable[[], bool],
    long_work: bool,
    absent: dict[str, str],
) -> Iterator[tuple[str, Candidate, FirstCall]]:
    """Call every candidate, and yield those that can run; ``absent`` is told why the others cannot."""
    ours: dict[str, Candidate] = {"advfeat (auto)": Advfeat()}
    everyone = work.settings.candidates == "all"
    if everyone:
        if long_work:
            engine = engine_for_long_work(work.model, work.images[:1])
            ours["advfeat (long work)"] = Advfeat({"engine": engine})
        ours["advfeat (fp32 reference)"] = Advfeat({"precision": "fp32"})
    for name, candidate in ours.items():
        say(f"first call of {name}")
        yield name, candidate, _first_call(work, judge, candidate)
    for name, peer in PEERS.items() if everyone else ():
        if machine.peer_version(name) is None:
            absent[name] = "not installed"
            continue
        if not enough_time():
            absent[name] = "no time was left"
            continue
        say(f"first call of {name}")
        try:
            peer.load()
            first = _first_call(work, judge, Batched(peer.attack))
        except Exception as error:  # whatever a peer raises, the others are measured
            absent[name] = f"failed: {type(error).__name__}: {str(error)[:80]}"
            continue
        yield name, Batched(peer.attack), first


def _first_call(work: Work, judge: Judge, candidate: Candidate) -> FirstCall:
    where = device()
    call = partial(candidate, work, work.settings.steps)
    before = measure.allocated(where)
    adversarial, seconds = measure.timed(call, where)
    success = judge.agreement(adversarial, work.targets)
    largest = work.largest_norm(adversarial)
    del adversarial
    kept = measure.allocated(where) - before
    seconds_again: list[float] = []
    needed = measure.working_memory(lambda: seconds_again.append(measure.timed(call, where)[1]), where)
    return FirstCall(
        seconds=seconds,
        second_seconds=seconds_again[0] if seconds_again else seconds,
        success=success,
        largest_norm=largest,
        working_memory_bytes=None if needed is None else needed + kept,
    )


def _row(
    name: str,
    first: FirstCall,
    seconds: list[float],
    candidate: Candidate,
    work: Work,
    flops: float,
    peaks: machine.Peaks,
) -> Row:
    image_steps = len(work.images) * work.settings.steps
    rate, after_setup = image_steps / statistics.median(seconds), None
    if isinstance(candidate, Advfeat):
        known = [lap for lap in candidate.rates[-len(seconds) :] if lap is not None]
        after_setup = statistics.median(known) if known else None
    return Row(
        name=name,
        image_steps_per_second=rate,
        slowest=image_steps / max(seconds),
        fastest=image_steps / min(seconds),
        after_setup=after_setup,
        first_call_seconds=first.seconds,
        success=first.success,
        largest_norm=first.largest_norm,
        working_memory_bytes=first.working_memory_bytes,
        shares_of_peak={precision: flops * rate / peak for precision, peak in peaks.flops_per_second.items()},
    )
