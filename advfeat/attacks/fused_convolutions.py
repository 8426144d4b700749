"""Convolutions that add their bias and a residual and apply the relu before they write their result.

On a GPU the relu after a convolution is a pass over memory of its own: the result is written, read and
written again. cuDNN has convolutions that do all of it at once, and torch's compiler does not use them. The
gradient needs nothing else than the relu's result, which is what they return.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch._prims_common import suggest_memory_format

_aten = torch.ops.aten
_NAME = "advfeat::convolution_relu"
_TYPES = (torch.bfloat16, torch.float16, torch.float32)
"""Of what cuDNN fuses."""

torch.library.define(
    _NAME,
    "(Tensor images, Tensor weight, Tensor bias, Tensor? residual, int[] stride, int[] padding, "
    "int[] dilation, int groups) -> Tensor",
)

CONVOLUTION_RELU = torch.ops.advfeat.convolution_relu.default
"""relu(convolution(images, weight) + bias + residual), a residual of the result's shape or none."""


def _in_words_of_torch(
    images: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    found = F.conv2d(images, weight, bias, stride, padding, dilation, groups)
    found = (found if residual is None else found + residual).relu()
    last = torch.channels_last in (suggest_memory_format(images), suggest_memory_format(weight))
    return found.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _by_cudnn(
    images: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    found: Tensor
    if residual is None:
        found = _aten.cudnn_convolution_relu.default(images, weight, bias, stride, padding, dilation, groups)
    else:
        found = _aten.cudnn_convolution_add_relu.default(
            images, weight, residual, 1.0, bias, stride, padding, dilation, groups
        )
    return found


torch.library.impl(_NAME, "cpu", _in_words_of_torch)
torch.library.impl(_NAME, "cuda", _by_cudnn)
torch.library.register_fake(_NAME, _in_words_of_torch)


def fuse_relus(traced: fx.GraphModule) -> int:
    """Put such convolutions into a traced step, in place; return how many."""
    relus = [node for node in traced.graph.nodes if node.target in _RELUS]
    fused = sum(_fused(traced.graph, relu) for relu in relus)
    traced.recompile()
    return fused


_RELUS = (_aten.relu.default, _aten.relu_.default)


def _fused(graph: fx.Graph, relu: fx.Node) -> bool:
    """Replace a relu and the convolution before it, if there is one that nobody else looks at."""
    before = relu.args[0]
    assert isinstance(before, fx.Node)
    if before.target == _aten.add.Tensor and len(before.users) == 1 and not before.kwargs:
        summands = before.args
    else:
        summands = (before,)
    for number, convolution in enumerate(summands):
        residual = summands[1 - number] if len(summands) == 2 else None
        if not _may_fuse(convolution, residual, relu):
            continue
        assert isinstance(convolution, fx.Node)
        images, weight, bias, stride, padding, dilation, _, _, groups = convolution.args
        arguments = (images, weight, bias, residual, stride, padding, dilation, groups)
        with graph.inserting_before(relu):
            made = graph.call_function(CONVOLUTION_RELU, arguments)
        made.meta = dict(relu.meta)
        relu.replace_all_uses_with(made)
        for replaced in dict.fromkeys([relu, before, convolution]):
            graph.erase_node(replaced)
        return True
    return False


def _may_fuse(convolution: Any, residual: Any, relu: fx.Node) -> bool:
    if not isinstance(convolution, fx.Node) or convolution.target != _aten.convolution.default:
        return False
    _, _, bias, *_, transposed, _, _ = convolution.args
    made = convolution.meta.get("val")
    if len(convolution.users) != 1 or bias is None or transposed or residual is convolution:
        return False
    if made is None or made.ndim != 4 or made.dtype not in _TYPES:
        return False
    if residual is not None:
        added = residual.meta.get("val") if isinstance(residual, fx.Node) else None
        if added is None or added.shape != made.shape or added.dtype != made.dtype:
            return False
    return not _changes_between(convolution, relu)


def _changes_between(first: fx.Node, last: fx.Node) -> bool:
    """Tell whether anything is computed in place between two nodes: a convolution moved there may see it."""
    node = first.next
    while node is not last:
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            return True
        node = node.next
    return False
