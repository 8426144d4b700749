"""Networks that engines attack in a model's place, held against the model before they are used.

Folding, converting and tracing are made for networks as textbooks have them. A shared layer, a hook or code
that looks at its input can make another function of them, and nobody would notice: the attack still finds
something. So each is compared with the model itself, in logits and in input gradients.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
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
"""How far logits may differ by rounding, as a share of what tells the images apart; bf16: the classes."""

_SAME_DIRECTION = {"fp32": 0.99, "bf16": 0.8}
"""The least cosine of two input gradients that differ by rounding."""

_SAME_LENGTH = 0.25
"""How far the lengths of two input gradients may differ, as a share."""

_HELD: WeakKeyDictionary[nn.Module, dict[Any, Engine]] = WeakKeyDictionary()
"""What was found of models that are attacked again and again, as in adversarial training."""


def prepared(model: nn.Module, engine: Engine, images: Tensor) -> tuple[nn.Module, Engine]:
    """Return a network that computes what the model does, and the engine that it was made for.

    It is the asked engine's, or else a plainer one's, of which a warning says why; at last it is the model
    itself. A model that answers otherwise when it is asked again, or about an image in other company, is
    attacked as it is, and a warning says so. To be called within ``plainly``; ``images`` are float32
    (N, C, H, W) in [0, 1].
    """
    held = _HELD.setdefault(model, {}) if type(model).__hash__ is nn.Module.__hash__ else {}
    key = engine, images.shape[1:], _structure(model)
    probes = _probes(images).to(device_of(model))
    if key in held:
        chosen = held[key]
        network = model if chosen.is_plain else _again(model, chosen, probes)
        if network is not None:
            return network, chosen
    exact = _answers(model, probes)
    if _like_probabilities(exact[0]):
        told = "its logits are all between 0 and 1, as after a sigmoid; leave it out if there is one"
        warnings.warn(f"{type(model).__name__}: {told}", stacklevel=4)
    problem = _unsteadiness(model, probes, exact[0])
    if problem is not None:
        network, chosen = model, engine.plainest()
    else:
        network, chosen, problem = _plainest_needed(model, engine, probes, exact)
    held[key] = chosen
    if problem is not None:
        warnings.warn(f"{type(model).__name__}: {problem}; it is attacked {_words(chosen)}", stacklevel=4)
    return network, chosen


def _like_probabilities(logits: Tensor) -> bool:
    """Tell whether logits fill the range from 0 to 1, and never leave it."""
    return bool(0 <= logits.min() < 0.1 and 0.9 < logits.max() <= 1)


def _again(model: nn.Module, engine: Engine, probes: Tensor) -> nn.Module | None:
    """Return the network that was found to do for a model, if it still does: what it calls may be another."""
    try:
        network = engine.prepare(model)
        found, wanted = (_logits(each, probes)[1].detach().float() for each in (network, model))
    except Exception:  # it is looked for anew, and told there
        return None
    return None if _other_logits(found, wanted, engine.precision) else network


def _plainest_needed(
    model: nn.Module, engine: Engine, probes: Tensor, exact: tuple[Tensor, Tensor]
) -> tuple[nn.Module, Engine, str | None]:
    problem = None
    while not engine.is_plain:
        # In fp32 first: what folding changes could hide in what bf16 rounds.
        for tried in dict.fromkeys([replace(engine, precision="fp32"), engine]):
            try:
                network = tried.prepare(model)
                pixels = probes.contiguous(memory_format=tried.layout)
                departs = _departure(_answers(network, pixels), exact, tried.precision)
            except Exception as error:  # what copies, tracers and a user's forward raise has no common type
                departs = f"cannot be made ({type(error).__name__}: {first_line(error)})"
            if departs is not None:
                problem = problem or f"{_words(tried)}, it {departs}"
                break
        else:
            return network, engine, problem
        engine = engine.plainer()
    return model, engine, problem


def _unsteadiness(model: nn.Module, probes: Tensor, logits: Tensor) -> str | None:
    """Say how a model is no function of an image alone; ``None`` if it is one."""
    in_company = torch.cat([probes[:_PROBES], 1 - probes[:_PROBES]])
    with _own_random_numbers(probes.device, seed=1):
        found = _logits(model, in_company)[1].detach().float()
        if not _other_logits(found[:_PROBES], logits[:_PROBES], "fp32"):
            return None
        again = _logits(model, probes)[1].detach().float()
    if _other_logits(again, logits, "fp32"):
        return "it gives other logits when it is asked again, from random numbers or a state that it keeps"
    return "the logits of an image depend on the rest of the batch, as when batch norm keeps no statistics"


def _probes(images: Tensor) -> Tensor:
    """Return a few images, and as many a little way off."""
    chosen = fill_up(images[:_PROBES].cpu(), _PROBES)
    generator = torch.Generator("cpu").manual_seed(0)
    noise = torch.rand(chosen.shape, generator=generator, dtype=chosen.dtype, device=chosen.device) - 0.5
    return torch.cat([chosen, (chosen + 2 * _NOISE * noise).clamp(0, 1)])


@contextmanager
def _own_random_numbers(where: torch.device, seed: int) -> Iterator[None]:
    with torch.random.fork_rng([where] if where.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _logits(network: nn.Module, probes: Tensor) -> tuple[Tensor, Tensor]:
    """Return pixels that may have a gradient, and their logits."""
    with torch.enable_grad():
        pixels = probes.detach().requires_grad_()
        return pixels, network(pixels)


def _answers(network: nn.Module, probes: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (N, classes) and the input gradient (N, C, H, W) of a fixed weighting of them."""
    with _own_random_numbers(probes.device, seed=0), torch.enable_grad():  # who draws numbers draws the same
        pixels, logits = _logits(network, probes)
        generator = torch.Generator("cpu").manual_seed(0)
        weights = torch.randn(logits.shape, generator=generator, dtype=torch.float32, device="cpu")
        (gradient,) = torch.autograd.grad((logits.float() * weights.to(logits.device)).sum(), pixels)
    return logits.detach().float(), gradient.nan_to_num()


def _departure(found: tuple[Tensor, Tensor], exact: tuple[Tensor, Tensor], precision: str) -> str | None:
    """Say how a network departs from the model beyond rounding; ``None`` if it does not."""
    (logits, gradient), (model_logits, model_gradient) = found, exact
    if logits.shape != model_logits.shape:
        return f"gives logits {tuple(logits.shape)} in place of {tuple(model_logits.shape)}"
    if _other_logits(logits, model_logits, precision):
        largest = float((logits - model_logits).abs().max())
        return f"gives other logits than the model (by up to {largest:.2g})"
    length, model_length = float(gradient.norm()), float(model_gradient.norm())
    if length == model_length == 0:
        return None
    if model_length == 0:
        return "gives gradients where the model gives none"
    cosine = float((gradient * model_gradient).sum()) / max(length * model_length, 1e-30)
    if not (cosine >= _SAME_DIRECTION[precision] and abs(length / model_length - 1) <= _SAME_LENGTH):
        ratio = length / model_length
        return f"gives other gradients than the model (cosine {cosine:.2f}, {ratio:.2g} times as long)"
    return None


def _other_logits(found: Tensor, wanted: Tensor, precision: str) -> bool:
    """Tell whether logits (N, classes) differ by more than rounding."""
    fixed = (wanted == wanted[0]).all(0)  # classes that a model masks, say by -1e30
    if not torch.allclose(found[:, fixed], wanted[:, fixed], rtol=_SAME_LOGITS["bf16"]):
        return True
    found, wanted = found[:, ~fixed], wanted[:, ~fixed]
    if precision == "fp32":
        scale = (wanted - wanted.mean(0)).norm() + 0.01 * wanted.norm()
    else:
        scale = (wanted - wanted.mean(1, keepdim=True)).norm()  # what all classes share tells none apart
    return not bool((found - wanted).norm() <= _SAME_LOGITS[precision] * scale)


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
