"""Networks that engines attack in a model's place, held against the model before they are used.

Folding, converting and tracing are made for networks as textbooks have them. A shared layer, a hook or code
that looks at its input can make another function of them, and nobody would notice: the attack still finds
something. So each is compared with the model itself, in logits and in input gradients.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from advfeat.attacks.engine import Engine
from advfeat.attacks.rows import fill_up
from advfeat.errors import first_line
from advfeat.hardware import device_of

_PROBES = 8
_NOISE = 0.1
"""How far the second half of the probes is from images, in [0, 1] pixel units."""

_SAME_LOGITS = {"fp32": 1e-3, "bf16": 0.1}
"""How far logits may differ by rounding, as a share of what tells the images apart; bf16: of the logits."""

_SAME_DIRECTION = {"fp32": 0.99, "bf16": 0.8}
"""The least cosine of two input gradients that differ by rounding."""

_SAME_LENGTH = 0.25
"""How far the lengths of two input gradients may differ, as a share."""

_HELD: WeakKeyDictionary[nn.Module, dict[Any, Engine]] = WeakKeyDictionary()
"""What was found of models that are attacked again and again, as in adversarial training."""


def prepared(model: nn.Module, engine: Engine, images: Tensor) -> tuple[nn.Module, Engine]:
    """Return a network that computes what the model does, and the engine that it was made for.

    It is the asked engine's, or else a plainer one's, of which a warning says why; at last it is the model
    itself. To be called within ``plainly``; ``images`` are float32 (N, C, H, W) in [0, 1].
    """
    if engine.is_plain:
        return model, engine
    held = _HELD.setdefault(model, {}) if type(model).__hash__ is nn.Module.__hash__ else {}
    key = engine, images.shape[1:], _structure(model)
    if key in held:
        chosen = held[key]
        return (model if chosen.is_plain else chosen.prepare(model)), chosen
    network, chosen, problem = _plainest_needed(model, engine, _probes(images).to(device_of(model)))
    held[key] = chosen
    if problem is not None:
        warnings.warn(f"{type(model).__name__}: {problem}; it is attacked {_words(chosen)}", stacklevel=4)
    return network, chosen


def _plainest_needed(
    model: nn.Module, engine: Engine, probes: Tensor
) -> tuple[nn.Module, Engine, str | None]:
    exact, problem = _answers(model, probes), None
    while not engine.is_plain:
        try:
            network = engine.prepare(model)
            departs = _departure(_answers(network, probes), exact, engine)
        except Exception as error:  # what copies, tracers and a user's forward raise has no common type
            departs = f"cannot be made ({type(error).__name__}: {first_line(error)})"
        if departs is None:
            return network, engine, problem
        problem = problem or f"{_words(engine)}, it {departs}"
        engine = engine.plainer()
    return model, engine, problem


def _probes(images: Tensor) -> Tensor:
    """Return a few images, and as many a little way off."""
    chosen = fill_up(images[:_PROBES].cpu(), _PROBES)
    noise = torch.rand(chosen.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    return torch.cat([chosen, (chosen + 2 * _NOISE * noise).clamp(0, 1)])


def _answers(network: nn.Module, probes: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (N, classes) and the input gradient (N, C, H, W) of a fixed weighting of them."""
    devices = [probes.device] if probes.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(0)  # what draws numbers draws the same ones
        pixels = probes.detach().requires_grad_()
        logits = network(pixels)
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits.device)
        (gradient,) = torch.autograd.grad((logits.float() * weights).sum(), pixels)
    return logits.detach().float(), gradient


def _departure(found: tuple[Tensor, Tensor], exact: tuple[Tensor, Tensor], engine: Engine) -> str | None:
    """Say how a network departs from the model beyond rounding; ``None`` if it does not."""
    (logits, gradient), (model_logits, model_gradient) = found, exact
    if logits.shape != model_logits.shape:
        return f"gives logits {tuple(logits.shape)} in place of {tuple(model_logits.shape)}"
    scale = model_logits.norm()
    if engine.precision == "fp32":
        scale = (model_logits - model_logits.mean(0)).norm() + 0.01 * scale
    difference = float((logits - model_logits).norm() / scale.clamp_min(1e-30))
    if not difference <= _SAME_LOGITS[engine.precision]:
        return (
            f"gives other logits than the model (by up to {float((logits - model_logits).abs().max()):.2g})"
        )
    lengths = gradient.norm(), model_gradient.norm()
    if max(lengths) == 0:
        return None
    cosine = float((gradient * model_gradient).sum() / (lengths[0] * lengths[1]).clamp_min(1e-30))
    ratio = float(lengths[0] / lengths[1].clamp_min(1e-30))
    if not (cosine >= _SAME_DIRECTION[engine.precision] and abs(ratio - 1) <= _SAME_LENGTH):
        return f"gives other gradients than the model (cosine {cosine:.2f}, {ratio:.2g} times as long)"
    return None


def _structure(model: nn.Module) -> tuple[Any, ...]:
    """Return what decides how a model is prepared, but for its weights: modules, hooks, plain attributes."""
    return tuple(
        (name, type(module), id(module), *map(id, hooks_of(module)), repr(_plain_attributes(module)))
        for name, module in model.named_modules(remove_duplicate=False)
    )


def hooks_of(module: nn.Module) -> Iterator[Callable[..., Any]]:
    """Give the hooks of a module, forward and backward."""
    for kind in ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"):
        yield from getattr(module, kind, {}).values()


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    plain = (bool, int, float, str, tuple, type(None))
    return {name: value for name, value in vars(module).items() if isinstance(value, plain)}


def _words(engine: Engine) -> str:
    if engine.is_plain:
        return "as it is, in fp32"
    precision = f"in {engine.precision}"
    return f"{precision} with batch norms folded" if engine.optimized and engine.folded else precision
