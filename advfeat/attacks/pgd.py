"""Projected gradient descent (Madry et al. 2018) on images in [0, 1]: one loop for every norm and loss.

What is returned lies exactly in the ball and in [0, 1]: measured in float64 on the float32 pixels,
without tolerance.
"""

import gc
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from advfeat.attacks.balls import BALLS, movable, within
from advfeat.attacks.engine import (
    REFERENCE,
    Engine,
    choose_engine,
    convolutions_for,
)
from advfeat.attacks.given import Given, as_tensors
from advfeat.attacks.motion import still, why_still
from advfeat.attacks.objectives import evaluated, goal_confidence, objective, reached
from advfeat.attacks.own_loss import with_settled_loss
from advfeat.attacks.prepared import hooks_of, prepared
from advfeat.attacks.rows import ROW_MULTIPLE, fill_up
from advfeat.attacks.schedules import State, auto_step, ended, next_length, starting_state
from advfeat.attacks.step_graph import Example, Step, compile_step
from advfeat.attacks.user_model import (
    TWO_OF_ONE,
    attackable,
    differentiable_logits,
    logits_of,
    plainly,
)
from advfeat.digest import derived_seed
from advfeat.errors import DeviceFullError, InputError, first_line
from advfeat.files.tensor_file import raw_bytes
from advfeat.hardware import device_of, in_words, keep_freed_memory, sent
from advfeat.progress import Progress
from advfeat.spec import Attack

_STARTS_AT_ONCE = 1024
"""Each start has a generator, of 5 kB."""

_STEPS_BETWEEN_LOOKS = 10
"""How many steps pass before progress is told and images that have stopped make room for others."""

_LAST_COMPILED: dict[str, tuple[Step, int]] = {}
"""The one compiled step that is kept, and its tile: a worker attacks shard after shard of one data set."""

_HALVINGS = 2
"""How often a tile that a GPU's memory does not hold is halved."""

_FITTING: dict[tuple[str, Engine, torch.Size, torch.device], int] = {}
"""The tiles that fitted where those of the engines did not, for the next shard."""

Made = TypeVar("Made")


def perturb(
    model: nn.Module,
    images: Given,
    labels: Given,
    attack: Attack,
    *,
    seed: int = 0,
    rows: Sequence[int] | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Return adversarial examples for ``images``, towards or away from ``labels``.

    ``images`` are float32 (N, C, H, W) in [0, 1], on any device; ``labels`` integers (N,): the target
    classes if ``attack.targeted``, else the classes to leave. The model takes such images and returns
    logits (N, classes); it is used in evaluation mode, where its parameters lie, and left as it was
    found. NumPy arrays and lists serve as well; inference mode and autocast do not reach in. The result is
    on the images' device. Which examples an image gets depends neither on its neighbours nor on batches:
    random starts are drawn from ``seed`` and ``rows``, the images' places in their data set (0, 1, … if
    unset). ``engine`` is chosen from the work at hand if unset.

    With ``attack.norm == "l2"``, ``targeted`` and no random start this is the attack of Ilyas et al.
    (2019), section 3.2. Raises ``InputError`` for images or labels that cannot be attacked, and for a model
    that returns no logits or lets no gradient through. Where a faster network would not compute what the
    model does, that is a warning, and the model itself is attacked; where no image moves, it is one too.
    """
    with torch.inference_mode(False):
        images, labels = as_tensors(images, labels)
        model = attackable(model)
    check_attackable(images, labels)
    if rows is not None and len(rows) != len(images):
        raise InputError(
            "rows", len(rows), f"are not one for each of the {len(images)} images", "give one each"
        )
    if not len(images):
        return images.clone()
    labels, attack = labels.long(), with_settled_loss(attack)
    keep_freed_memory()
    places = range(len(images)) if rows is None else rows
    where = device_of(model)
    with plainly(model):
        check_classes(model, images, labels)
        engine = engine or choose_engine(model, images[:1], attack.precision, len(images) * attack.passes)
        with convolutions_for(engine, where):
            attempts = _Attempts(model, images, labels, attack, engine, progress)
            best, unmoved = attempts.run(_starts(images, attack, seed, places, attempt=0))
            if attack.restarts:
                hit, loss = attempts.strength(best)
            for attempt in range(1, 1 + attack.restarts):
                other, other_unmoved = attempts.run(_starts(images, attack, seed, places, attempt))
                other_hit, other_loss = attempts.strength(other)
                better = (other_hit & ~hit) | ((other_hit == hit) & (other_loss < loss))
                best[better], hit[better], loss[better] = other[better], other_hit[better], other_loss[better]
                unmoved = unmoved and other_unmoved
        if unmoved:
            warnings.warn(why_still(model, images, labels, attack), stacklevel=2)
    return best


class _Attempts:
    """Attacks the same images again and again, with one prepared network and one step."""

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        attack: Attack,
        engine: Engine,
        progress: Progress | None,
    ) -> None:
        self._model, self._images, self._labels = model, images, labels
        self._attack, self._progress = attack, progress
        self._device = device_of(model)
        network, self._engine = prepared(model, engine, images)
        self._network = network
        self._step: Step | None = None
        self._asked_engine, self._tiles_tried = self._engine, list[int]()
        fitting = _FITTING.get(self._place_in_memory(), self._engine.tile)
        if fitting != self._engine.tile:
            self._engine = _of_tile(self._engine, fitting)
        self._steps_done = 0

    def run(self, starts: Tensor) -> tuple[Tensor, bool]:
        """Return the examples that descent from the given perturbations arrives at, mended.

        And whether none moved from where it started, though all had gradients.
        """
        attack, perturbations = self._attack, starts.clone()
        moving = torch.arange(len(self._images), device="cpu")
        states: State | None = None
        block = attack.steps if attack.stop_confidence is None else _STEPS_BETWEEN_LOOKS
        for first in range(0, attack.steps, block):
            steps, unfinished_of, states_of = min(block, attack.steps - first), [], []
            last = first + steps == attack.steps
            work = partial(self._descend, moving, perturbations, states, steps, last)
            for places, (perturbation, unfinished, state) in self._in_tiles(len(moving), work):
                perturbations[moving[places]] = perturbation
                unfinished_of.append(unfinished)
                states_of.append(tuple(part[unfinished] for part in state))
            if attack.stop_confidence is not None:
                moving = moving[torch.cat(unfinished_of)]
                states = tuple(torch.cat(parts) for parts in zip(*states_of, strict=True))
            if not len(moving):
                break
        examples, undefined = (
            self._examples(perturbations),
            int(perturbations.flatten(1).isnan().any(1).sum()),
        )
        if undefined:
            warnings.warn(
                f"{type(self._model).__name__}: {undefined} of {len(examples)} images stay as they are: the "
                f"gradient of {attack.loss} is NaN; does the model take a root or divide at zero?",
                stacklevel=3,
            )
        return examples, not undefined and still((self._images + starts).clamp(0, 1), examples)

    def strength(self, examples: Tensor) -> tuple[Tensor, Tensor]:
        """Return in fp32 whether each example reaches the goal, and its loss, on the examples' device."""
        loss = objective(self._attack)

        def judged(chosen: Tensor) -> tuple[Tensor, Tensor]:
            aims = self._labels[chosen].to(self._device)
            batch = fill_up(examples[chosen], self._engine.fill(len(chosen), self._device))
            logits = logits_of(self._model, batch)[: len(chosen)].detach()
            return reached(logits, aims, self._attack.targeted), loss(logits, aims)

        parts = [made for _, made in self._in_tiles(len(examples), judged)]
        hits, losses = (torch.cat(each).to(examples.device) for each in zip(*parts, strict=True))
        return hits, losses

    def _in_tiles(self, count: int, work: Callable[[Tensor], Made]) -> Iterator[tuple[Tensor, Made]]:
        """Give the places of tile after tile among ``count``, and what work makes of them.

        Of a tile that a GPU's memory does not hold, the work is done again from its start with half as many.
        """
        first = 0
        while first < count:
            steps_done = self._steps_done
            try:
                self._make_step()  # which may choose the tile
                places = torch.arange(first, min(first + self._engine.tile, count), device="cpu")
                made = work(places)
            except torch.OutOfMemoryError as error:
                problem = first_line(error)
            else:
                yield places, made
                first += len(places)
                continue
            self._steps_done = steps_done
            self._halve_tile(problem)

    def _halve_tile(self, problem: str) -> None:
        tile = self._engine.tile
        self._tiles_tried.append(tile)
        if len(self._tiles_tried) > _HALVINGS or tile == 1:
            tiles = ", ".join(f"{each:,}" for each in self._tiles_tried)
            raise DeviceFullError(
                f"attack: tiles of {tiles} images of shape {tuple(self._images.shape[1:])} do not fit the "
                f"memory of {in_words(self._device)}; end what else computes there, give every stage a GPU "
                f"of its own, or attack a smaller network ({problem})"
            )
        warnings.warn(
            f"tiles of {tile:,} images do not fit the memory of {in_words(self._device)}: the attack goes on "
            f"with {tile // 2:,}",
            stacklevel=4,
        )
        self._step, self._engine = None, _of_tile(self._engine, tile // 2)
        _FITTING[self._place_in_memory()] = tile // 2
        _LAST_COMPILED.clear()
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _place_in_memory(self) -> tuple[str, Engine, torch.Size, torch.device]:
        return type(self._model).__name__, self._asked_engine, self._images.shape[1:], self._device

    def _descend(
        self,
        moving: Tensor,
        perturbations: Tensor,
        states: State | None,
        steps: int,
        last: bool,
        places: Tensor,
    ) -> tuple[Tensor, Tensor, State]:
        """Take some steps with one tile, the ``places`` among those that move.

        ``states`` is that of the images that move, none before their first step. Returns their
        perturbations and state, on the images' device, and which are to move on, on the CPU. After the
        ``last`` steps there is no state.
        """
        chosen = moving[places]
        given = () if states is None else tuple(part[places] for part in states)
        images, perturbation, labels, *rest = self._tile(chosen, perturbations[chosen], *given)
        state = starting_state(self._attack, perturbation) if states is None else tuple(rest)
        step = self._make_step()
        for number in range(1, steps + 1):
            perturbation, moving, *rest = step(images, perturbation, labels, *state)
            state = tuple(rest)
            if number % _STEPS_BETWEEN_LOOKS == 0 or number == steps:
                self._report(len(chosen) * (1 + (number - 1) % _STEPS_BETWEEN_LOOKS))
        if last:
            perturbation, state = (
                ended(self._network, self._attack, images, perturbation, labels, state),
                (),
            )
        home, count = self._images.device, len(chosen)
        state = tuple(part[:count].to(home) for part in state)
        return perturbation[:count].to(home), moving[:count].to("cpu"), state

    def _examples(self, perturbations: Tensor) -> Tensor:
        """Put the perturbations on the images; what rounding put outside is mended."""
        examples = torch.empty_like(self._images)

        def mended(chosen: Tensor) -> Tensor:
            parts = self._images[chosen], perturbations[chosen]
            images, perturbation = (sent(part, self._device) for part in parts)
            return within(images, images + perturbation, BALLS[self._attack.norm], self._attack.eps)

        for chosen, tile in self._in_tiles(len(examples), mended):
            examples[chosen] = tile.to(examples.device)
        return examples

    def _tile(self, chosen: Tensor, start: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Bring one tile and its state to the device, filled up to the engine's rows."""
        count = self._engine.fill(len(chosen), self._device)
        return self._brought(count, self._images[chosen], start, self._labels[chosen], *state)

    def _brought(self, count: int, *parts: Tensor) -> tuple[Tensor, ...]:
        def moved(batch: Tensor) -> Tensor:
            filled = sent(fill_up(batch, count), self._device)
            return filled.contiguous(memory_format=self._engine.layout) if filled.ndim == 4 else filled

        return tuple(map(moved, parts))

    def _make_step(self) -> Step:
        """Return the step, compiled if the engine says so, unless that is the last one that was compiled."""
        if self._step is None and self._engine.compiled:
            self._step, tile = self._compiled()
            self._engine = replace(self._engine, tile=tile)
        elif self._step is None:
            self._step = attack_step(self._network, self._attack)
        return self._step

    def _compiled(self) -> tuple[Step, int]:
        """Return the compiled step, and the tile that it is compiled for."""
        engine, step = self._engine, attack_step(self._network, self._attack)
        key = _fingerprint(self._model, self._images[:1], self._labels[:1], self._attack, engine)
        if key not in _LAST_COMPILED:
            if engine.seconds_to_choose and not torch.are_deterministic_algorithms_enabled():
                from advfeat.attacks.step_choice import fastest_step

                chosen = fastest_step(
                    step,
                    self._example,
                    kind=repr((self._network, self._attack, self._images.shape[1:], engine.precision)),
                    tile=engine.tile,
                    largest_tile=engine.largest_tile,
                    images=len(self._images),
                    seconds=engine.seconds_to_choose,
                )
            else:
                chosen = compile_step(step, self._example(engine.tile), engine.abreast), engine.tile
            _LAST_COMPILED.clear()
            _LAST_COMPILED[key] = chosen
        return _LAST_COMPILED[key]

    def _example(self, count: int) -> Example:
        """Return what a step is given for so many images, filled up with a few of these."""
        few = slice(min(len(self._images), ROW_MULTIPLE, count))
        parts = self._images[few], torch.zeros_like(self._images[few]), self._labels[few]
        tile = self._brought(count, *parts)
        return *tile, *starting_state(self._attack, tile[1])

    def _report(self, image_steps: int) -> None:
        self._steps_done += image_steps
        if self._progress is not None:
            self._progress(self._steps_done // self._attack.passes, len(self._images))


def _of_tile(engine: Engine, tile: int) -> Engine:
    """Return the same engine with a smaller tile, and none tried that is larger."""
    return replace(engine, tile=tile, largest_tile=tile)


def _fingerprint(model: nn.Module, image: Tensor, label: Tensor, attack: Attack, engine: Engine) -> str:
    """Name a compiled step by all that is built into it.

    What neither weights nor the text of attributes show, such as a tensor kept in a plain attribute,
    shows in the logits of a fixed image.
    """
    where, of_every_module = device_of(model), vars(nn.Module()).keys()
    attributes = [
        {name: value for name, value in vars(module).items() if name not in of_every_module}
        for module in model.modules()
    ]
    hooks = [list(hooks_of(module)) for module in model.modules()]
    built_in = [attack.model_dump_json(), engine, where, torch.get_num_threads(), model, attributes, hooks]
    sha = hashlib.sha256(repr([*built_in, image.shape, label.dtype]).encode())
    generator = torch.Generator("cpu").manual_seed(0)
    probe = torch.rand(image.shape, generator=generator, dtype=image.dtype, device="cpu")
    with convolutions_for(REFERENCE, where):
        logits = logits_of(model, probe).detach()
    for tensor in (*model.state_dict().values(), logits):
        sha.update(raw_bytes(tensor))
    return sha.hexdigest()


def attack_step(network: nn.Module, attack: Attack) -> Step:
    """Return one step of the attack on a frozen ``network``.

    The step takes (images, perturbation, labels) and the state that the schedule keeps of each image
    (``starting_state``), and returns the next perturbation, whether each image still moves, and the next
    state: with ``attack.stop_confidence`` an image that has reached it stays where it is.
    """
    if attack.schedule == "apgd":
        return auto_step(network, attack)
    ball, loss = BALLS[attack.norm], objective(attack)

    def step(images: Tensor, perturbation: Tensor, labels: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        pixels = images + perturbation
        logits, _, gradient = evaluated(network, loss, pixels, labels)
        descent = movable(-gradient, pixels) if ball.sparse else -gradient
        length, state = next_length(attack, state)
        move = length * ball.direction(descent)
        moved = ball.project(perturbation + move, attack.eps)
        moved = (images + moved).clamp(0, 1) - images
        if attack.stop_confidence is None:
            return moved, labels >= 0, *state
        moving = goal_confidence(logits.detach(), labels, attack.targeted) < attack.stop_confidence
        return torch.where(moving.view(-1, 1, 1, 1), moved, perturbation), moving, *state

    return step


def _starts(images: Tensor, attack: Attack, seed: int, rows: Sequence[int], attempt: int) -> Tensor:
    """Return where the attempt starts: at the images, or at a point of the ball for each row."""
    if attempt == 0 and not attack.random_start:
        return torch.zeros_like(images)
    ball = BALLS[attack.norm]
    points = torch.empty_like(images, device="cpu", memory_format=torch.contiguous_format)
    for first in range(0, len(rows), _STARTS_AT_ONCE):
        some = rows[first : first + _STARTS_AT_ONCE]
        seeds = [derived_seed(seed, "start", attempt, row) for row in some]
        generators = [torch.Generator("cpu").manual_seed(each) for each in seeds]
        points[first : first + len(some)] = ball.random_points(images.shape[1:], attack.eps, generators)
    return (images + points.to(images.device)).clamp(0, 1) - images


def check_attackable(images: Tensor, labels: Tensor) -> None:
    """Raise ``InputError`` unless there are images in [0, 1] with one integer for each."""
    if images.ndim != 4 or images.dtype != torch.float32:
        raise InputError(
            "images",
            f"{images.dtype} {tuple(images.shape)}",
            "is not float32 (N, C, H, W)",
            "give images.float()"
            if images.ndim == 4 and images.is_floating_point()
            else "divide uint8 pixels by 255 and stack the images",
        )
    if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.is_complex():
        raise InputError(
            "labels",
            f"{labels.dtype} {tuple(labels.shape)}",
            f"is not one integer for each of the {len(images)} images",
            "give class numbers, int64 (N,)",
        )
    if not ((images >= 0) & (images <= 1)).all():
        raise InputError(
            "images",
            f"values from {images.min():g} to {images.max():g}",
            "leave [0, 1]",
            "scale pixels to [0, 1] and remove NaN; normalization belongs into the model",
        )


def check_classes(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Return how many classes the model has; raise ``InputError`` for a label that is none of them.

    To be called within ``plainly``; raises ``InputError`` too for a model that returns no logits or lets no
    gradient through.
    """
    classes: int = differentiable_logits(model, images[:1]).shape[1]
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        raise InputError(
            "labels",
            lowest if lowest < 0 else highest,
            f"is not a class of a model that has {classes}",
            TWO_OF_ONE if classes == 1 else f"give class numbers from 0 to {classes - 1}",
        )
    return classes
