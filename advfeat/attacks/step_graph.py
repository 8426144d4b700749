"""An attack step as one compiled graph without autograd, whose convolutions have shapes that processors like.

While a step is traced, every input gradient becomes a plain convolution with constant weights, which the
compiler packs once: forward convolutions are the kernels that libraries tune best. Where a processor
multiplies tiles of 16 pixels of an image row at once (AMX), rows of small images would leave most of a
tile empty: there several images are laid abreast.
"""

import warnings
from collections.abc import Callable
from math import gcd, prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Step = Callable[..., tuple[Tensor, ...]]
"""(images, perturbation, labels, *state) -> (next perturbation, whether each image still moves, *next state).

The state is what a schedule keeps of each image: tensors whose first dimension is N, none for a constant one.
"""

Example = tuple[Tensor, ...]
"""(images, perturbation, labels, *state)."""

_PIXELS_OF_A_TILE = 16

_SAME_WAY = 0.7
"""The least cosine of two steps that differ by rounding, which turns signs and steepest values over."""

_aten = torch.ops.aten


def compile_step(step: Step, example: Example, abreast: int = 1) -> Step:
    """Compile an attack step for inputs of the shapes, strides and devices of ``example``.

    The result is to be called under ``torch.no_grad()``. Where the compiler fails, or what it made moves
    images elsewhere than the step does, that is a warning, and the step itself is returned. ``abreast`` is
    as in ``trace_step``.
    """
    try:
        compiled, found = frozen_step(step, example, abreast)
        reason = None if likeness(found, step(*example), example) >= 0.5 else "it would move images elsewhere"
    except torch.OutOfMemoryError:  # of the step itself, which would not fit either
        raise
    except Exception as error:  # what tracers and compilers raise has no common type
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    if reason is not None:
        warnings.warn(f"the attack step is not compiled ({reason})", stacklevel=2)
        return step
    return compiled


def frozen_step(step: Step, example: Example, abreast: int = 1) -> tuple[Step, tuple[Tensor, ...]]:
    """Compile a step with its weights as constants; return it, and what it makes of the example.

    Raises what tracers and compilers raise.
    """
    import torch._inductor.config as inductor

    # Freezing is looked up when the step is traced too, where an option of torch.compile does not reach.
    settings: dict[str, Any] = {"freezing": True}
    if example[0].device.type == "cpu":
        # One compiler process: no worker pool that would outlive a killed run. Launching the graph's
        # kernels by C++ takes less time than by Python.
        settings |= {"compile_threads": 1, "cpp_wrapper": True}
    with inductor.patch(settings):
        compiled: Step = torch.compile(trace_step(step, example, abreast), dynamic=False)
        return compiled, compiled(*example)  # the first call compiles


def likeness(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...], example: Example) -> float:
    """Return the share of images that two steps lead the same way, but for rounding, and move on alike."""
    ours, theirs = ((made[0] - example[1]).flatten(1).double() for made in (found, wanted))
    cosines = F.cosine_similarity(ours, theirs, eps=1e-30)
    alike = (cosines >= _SAME_WAY) | ((ours == 0).all(1) & (theirs == 0).all(1))
    return min(float(alike.double().mean()), float((found[1] == wanted[1]).double().mean()))


def trace_step(
    step: Step, example: Example, abreast: int = 1, spreading: bool = True
) -> torch.fx.GraphModule:
    """Return an attack step as one graph, its input gradients as convolutions.

    Convolutions of images with rows of less than 16 pixels see ``abreast`` of them side by side. Without
    ``spreading``, gradients of strided 1x1 convolutions are transposed convolutions as those of others are.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    def convolution(images: Tensor, *settings: Any) -> Any:
        return _abreast(abreast, images, *settings)

    def gradient(*given: Any) -> Any:
        return _input_gradient(spreading, *given)

    shapes: dict[Any, Callable[..., Any]] = {
        _aten.convolution.default: convolution,
        _aten.convolution_backward.default: gradient,
    }
    with torch.no_grad():
        return make_fx(step, decomposition_table=shapes)(*example)


def _input_gradient(
    spreading: bool,
    upstream: Tensor,
    images: Tensor,
    weight: Tensor,
    _biases: Any,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    _rest: list[int],
    groups: int,
    wanted: list[bool],
) -> Any:
    """Return a convolution's input gradient as a convolution, if it is one of images.

    Of a strided one it is a transposed convolution; where that has no extent, it multiplies and spreads.
    """
    if transposed or weight.ndim != 4 or any(wanted[1:]):
        return NotImplemented
    kernel = weight.shape[2:]
    reach = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
    plain = groups == 1 and min(reach) >= 0
    if plain and prod(stride) == 1:
        flipped = weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        return _convolution(upstream, flipped, reach, dilation), None, None
    if plain and spreading and prod(kernel) == 1:
        multiplied = _convolution(upstream, weight.transpose(0, 1), [0, 0], [1, 1])
        return _spread(multiplied, stride)[:, :, : images.shape[2], : images.shape[3]], None, None
    extents = zip(images.shape[2:], reach, padding, stride, strict=True)
    rest = [(n - r + p - 1) % s for n, r, p, s in extents]
    gradient = _aten.convolution.default(
        upstream, weight, None, stride, padding, dilation, True, rest, groups
    )
    return gradient, None, None


def _convolution(images: Tensor, weight: Tensor, padding: list[int], dilation: list[int]) -> Tensor:
    result: Tensor = _aten.convolution.default(
        images, weight, None, [1, 1], padding, dilation, False, [0, 0], 1
    )
    return result


def _spread(images: Tensor, stride: list[int]) -> Tensor:
    """Put zeros between the pixels of ``images`` (N, C, H, W), so that they are ``stride`` apart."""
    (down, right), (height, width) = stride, images.shape[2:]
    apart = images.permute(0, 2, 3, 1).unflatten(2, (width, 1)).unflatten(1, (height, 1))
    zeros = F.pad(apart, (0, 0, 0, right - 1, 0, 0, 0, down - 1))
    return zeros.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def _abreast(
    most: int,
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Any:
    """Compute a convolution that keeps its images' width, but for the stride, of several side by side.

    Between two images are as many columns of zeros as the kernel reaches over an edge. What the
    convolution makes of them is left out.
    """
    side = gcd(len(images), most)
    if side == 1 or images.ndim != 4 or weight.shape[3] == 1 or groups != 1:
        return NotImplemented
    if 2 * padding[1] != dilation[1] * (weight.shape[3] - 1):
        return NotImplemented
    step, width = stride[1], images.shape[3]
    if transposed:
        result = (width - 1) * step + 1 + output_padding[1]
        given = width + -(-padding[1] // step)
        made, rest = given * step, [output_padding[0], step - 1]
    else:
        result = (width - 1) // step + 1
        given = -(-(width + padding[1]) // step) * step
        made, rest = given // step, output_padding
    if min(width, result) >= _PIXELS_OF_A_TILE:
        return NotImplemented
    rows = images.unflatten(0, (-1, side)).permute(0, 3, 1, 4, 2)
    wide = F.pad(rows, (0, 0, 0, given - width)).flatten(2, 3).permute(0, 3, 1, 2)
    found = _aten.convolution.default(
        wide.contiguous(memory_format=torch.channels_last),
        weight,
        bias,
        stride,
        padding,
        dilation,
        transposed,
        rest,
        groups,
    )
    return found.unflatten(3, (side, made))[..., :result].permute(0, 3, 1, 2, 4).flatten(0, 1)
