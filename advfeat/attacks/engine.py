"""Forward and input gradient of a frozen network, near the hardware's limit.

In order of what each brings: parameters frozen (no weight gradients), channels_last, bf16 weights where
the processor multiplies them (AMX, AVX512-bf16, tensor cores), batch norm folded into convolutions, and,
for work long enough to pay for the compilation, the whole attack step as one graph (``step_graph.py``).
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from advfeat.attacks.rows import ROW_MULTIPLE
from advfeat.attacks.user_model import evaluated, logits_of, plainly
from advfeat.errors import InputError
from advfeat.hardware import can_compile, choose_precision, device_of, multiplies_tiles
from advfeat.models import Normalized
from advfeat.spec import Precision

_ACTIVATION_BYTES_ON_CPU = 1 << 30
_ACTIVATION_BYTES_NEAR_CACHES = 160 << 20
_ACTIVATION_SHARE_ON_GPU = 0.25
_LEAST_TILE_ON_CPU = 64
_LARGEST_TILE = {"cpu": 128, "cuda": 1024}
_ABREAST_IN_TILES = 32
_COMPILATION_PAYS_FROM_FLOP = {("cpu", "fp32"): 1e14, ("cpu", "bf16"): 1e14, ("cuda", "bf16"): 3e15}
"""Of a whole data set, whose shards may be computed by several workers, each of which compiles."""

_LARGEST_TIMED_TILE = 2048
_FLOP_PER_SECOND_ON_GPU = 3e14
"""About what an H100 reached with attack steps as they are compiled at first."""

_SHARE_OF_WORK_TO_CHOOSE, _MOST_SECONDS_TO_CHOOSE = 0.25, 60.0
_CHOICE_PAYS_FROM_SECONDS = 5.0


@dataclass(frozen=True)
class Engine:
    """How attack steps are computed.

    An ``optimized`` network has its batch norms ``folded`` into convolutions, unless that changes what it
    computes. ``tile`` is how many images go through the network at once, ``abreast`` how many of them a
    compiled step lays side by side for convolutions where they are small. ``seconds_to_choose`` is how long
    a worker may time other compiled forms of the step, and tiles up to ``largest_tile``, to take the
    fastest (``step_choice.py``).
    """

    precision: Literal["bf16", "fp32"] = "fp32"
    optimized: bool = False
    folded: bool = True
    compiled: bool = False
    tile: int = 128
    abreast: int = 1
    seconds_to_choose: float = 0.0
    largest_tile: int = 0

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return a frozen copy of ``model`` in evaluation mode, made for this engine's precision.

        Raises what copying, tracing and converting raise, and may compute another function: ``prepared``
        holds it against the model.
        """
        network = _copied(model)
        if self.optimized:
            network = _channels_last(_folded(network) if self.folded else network)
        return _BF16(network) if self.precision == "bf16" else network

    @property
    def layout(self) -> torch.memory_format:
        """How images lie in memory that its networks are given."""
        return torch.channels_last if self.optimized else torch.contiguous_format

    @property
    def is_plain(self) -> bool:
        """Whether it attacks the model as it is."""
        return self.precision == "fp32" and not self.optimized

    def plainer(self) -> "Engine":
        """Return the next engine that changes less of a network; the last one attacks the model itself."""
        if self.optimized and self.folded:
            return replace(self, folded=False)
        return replace(
            self, precision="fp32", abreast=1, optimized=self.optimized and self.precision == "bf16"
        )

    def plainest(self) -> "Engine":
        """Return the engine that attacks the model itself, step by step."""
        return replace(self, precision="fp32", optimized=False, compiled=False, abreast=1)

    def fill(self, rows: int, where: torch.device) -> int:
        """Return how many rows a batch of ``rows`` is filled up to on a device.

        A GPU's libraries choose among kernels by the shape: there all batches have the same.
        """
        if self.compiled or where.type != "cpu":
            return self.tile
        return -(-rows // ROW_MULTIPLE) * ROW_MULTIPLE


REFERENCE = Engine()
"""The plain path: fp32, eager, nothing folded."""


def choose_engine(model: nn.Module, image: Tensor, precision: Precision, image_steps: int) -> Engine:
    """Choose how to attack ``image_steps`` times an image like ``image`` (1, C, H, W).

    Depends on the kind of machine, the network and the amount of work alone, so that workers of one
    kind choose alike. ``precision="fp32"`` is the reference path; a network that bf16 layers do not fit
    into is computed in fp32, whatever was asked for. Raises ``InputError`` for what is no model of logits.
    """
    device = device_of(model)
    image = image.to(device)
    if precision == "fp32":
        return Engine(tile=_tile(model, image, near_caches=True))
    flop = step_flop(model, image)
    chosen = choose_precision(precision, device, flop)
    if chosen == "bf16" and not _takes_bf16(model, image):
        chosen = "fp32"
    pays = image_steps * flop >= _COMPILATION_PAYS_FROM_FLOP.get((device.type, chosen), float("inf"))
    abreast = _ABREAST_IN_TILES if chosen == "bf16" and multiplies_tiles(device) else 1
    compiled = pays and can_compile(device)
    # bf16 weights that are not compiled in are packed anew for every tile: that wants large ones.
    tile = _tile(model, image, near_caches=compiled or chosen == "fp32")
    engine = Engine(chosen, optimized=True, compiled=compiled, tile=tile, abreast=abreast)
    if not compiled or device.type != "cuda":
        return engine
    work = _SHARE_OF_WORK_TO_CHOOSE * image_steps * flop / _FLOP_PER_SECOND_ON_GPU
    if work < _CHOICE_PAYS_FROM_SECONDS:
        return engine
    largest = _tile(model, image, near_caches=True, largest=_LARGEST_TIMED_TILE)
    return replace(engine, seconds_to_choose=min(work, _MOST_SECONDS_TO_CHOOSE), largest_tile=largest)


def step_flop(model: nn.Module, image: Tensor) -> int:
    """Count the floating-point operations of one forward and input gradient of ``image`` (1, C, H, W).

    Two for each multiplication with its addition, in convolution and linear layers. torch's own
    ``FlopCounterMode`` counts the same, but loads the compiler: seconds in every worker.
    """
    flop = 0

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal flop
        weight = layer.weight
        assert isinstance(weight, Tensor)
        flop += 2 * output.numel() * weight[0].numel()

    with plainly(model):
        layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        hooks = [layer.register_forward_hook(count) for layer in layers]
        try:
            logits_of(model, image)
        finally:
            for hook in hooks:
                hook.remove()
    return 2 * flop // ROW_MULTIPLE


@contextmanager
def convolutions_for(engine: Engine, where: torch.device) -> Iterator[None]:
    """Let cuDNN take kernels that repeat themselves, or for an optimized engine the fastest for its tiles.

    Which is fastest is found by timing them, and need not be the same in every process: where
    deterministic algorithms are asked for, no kernels are timed.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    if where.type == "cuda":
        timed = engine.optimized and not torch.are_deterministic_algorithms_enabled()
        cudnn.deterministic, cudnn.benchmark = not timed, timed
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


class _BF16(nn.Module):
    """Convolution and linear layers in bf16; what comes before the first of them, and logits, in fp32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network = model
        for layer in model.modules():
            has_own = next(layer.parameters(recurse=False), None) is not None
            if type(layer) in _BF16_LAYERS:
                layer.to(torch.bfloat16).register_forward_pre_hook(_rounded)
            elif has_own and not isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.register_forward_pre_hook(_widened)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes), float32."""
        logits: Tensor = self.network(images)
        return logits.float()


_BF16_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _rounded(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return _as_type(torch.bfloat16, given)


def _widened(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return _as_type(torch.float32, given)


def _as_type(dtype: torch.dtype, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        one.to(dtype) if isinstance(one, Tensor) and one.is_floating_point() else one for one in given
    )


def _takes_bf16(model: nn.Module, image: Tensor) -> bool:
    """Return whether a network runs with bf16 layers: a user's may multiply their outputs by fp32 ones."""
    if isinstance(model, Normalized):
        return True
    try:
        with plainly(model):
            logits_of(Engine("bf16").prepare(model), image)
    except Exception:  # of a user's forward; it is attacked as it is
        return False
    return True


def _copied(model: nn.Module) -> nn.Module:
    """Return a frozen copy in evaluation mode; raise ``InputError`` where it would share weights."""
    network = copy.deepcopy(model)
    own = {id(tensor) for tensor in chain(model.parameters(), model.buffers())}
    if not own.isdisjoint(map(id, chain(network.parameters(), network.buffers()))):
        name = type(model).__name__
        raise InputError("model", name, "shares its weights with its copies", "correct its __deepcopy__")
    evaluated(network)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network


def _channels_last(network: nn.Module) -> nn.Module:
    """Lay out what has four dimensions; ``Module.to`` refuses networks that have five anywhere."""
    for tensor in chain(network.parameters(), network.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return network


def _folded(model: nn.Module) -> nn.Module:
    """Fold batch norms into the convolutions before them."""
    from torch.fx.experimental.optimization import fuse

    if isinstance(model, Normalized):
        model.network = _folded(model.network)
        return model
    if not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules()):
        return model
    folded: nn.Module = fuse(model)
    for parameter in folded.parameters():
        parameter.requires_grad_(False)
    return folded


def _tile(model: nn.Module, image: Tensor, near_caches: bool, largest: int | None = None) -> int:
    """Return the power of two of images whose activations fit the budget of the device.

    On a CPU they fit its caches too, if they are to and unless that would be few images.
    """
    bytes_of_one = max(1, _activation_bytes(model, image))
    if image.device.type == "cuda":
        budget = _ACTIVATION_SHARE_ON_GPU * torch.cuda.get_device_properties(image.device).total_memory
    else:
        budget = _ACTIVATION_BYTES_ON_CPU
        if near_caches:
            budget = min(budget, max(_ACTIVATION_BYTES_NEAR_CACHES, _LEAST_TILE_ON_CPU * bytes_of_one))
    largest = largest or _LARGEST_TILE.get(image.device.type, 128)
    fitting = max(1, int(budget / bytes_of_one))
    return int(min(largest, 2 ** (fitting.bit_length() - 1)))


def _activation_bytes(model: nn.Module, image: Tensor) -> int:
    """Count the bytes that the backward pass of one image needs of the forward pass."""
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    own = chain(model.parameters(), model.buffers())  # a state may hold what is not a tensor
    weights = {tensor.untyped_storage().data_ptr() for tensor in own}
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with plainly(model), torch.enable_grad(), hooks:
        logits = logits_of(model, image.detach().requires_grad_())
    del logits
    return sum(size for pointer, size in saved.items() if pointer not in weights) // ROW_MULTIPLE
