"""About how long stages take and how much memory they fill, told from the specs alone."""

from math import prod

from advfeat.files.parts import PART_BYTES, WINDOW_PARTS
from advfeat.spec import TrainSpec, is_own

FORWARD_MFLOP: dict[str, float] = {
    "cnn": 58,
    "resnet9": 190,
    "resnet18": 1110,
    "resnet50": 2600,
    "wide_resnet28_10": 10_500,
    "vgg16_bn": 626,
    "inception": 2670,
    "densenet": 576,
}
"""One image of 3 x 32 x 32 forward, width 32 where there is a choice; by torch's FlopCounterMode."""

_FLOP_PER_SECOND = {False: 5e10, True: 1.5e14}
"""What one core (with AVX2) and one GPU (an H100 or so) do of it, by ``on_gpu``: the order of magnitude."""


_CLASSES = 10
"""Where nothing says how many there are: the work of our networks hardly depends on it."""


def forward_flop(model: TrainSpec, image_shape: tuple[int, ...], classes: int = _CLASSES) -> float:
    """Return about how many floating-point operations one image takes forward."""
    if is_own(model.model):
        from advfeat.models.examination import examined

        return examined(model.model, model.width, image_shape, classes)
    scale = model.width / 32
    if model.model == "mlp":
        hidden = 8 * model.width
        return 2.0 * hidden * (prod(image_shape) + hidden)
    growth = scale**2 if model.model in ("cnn", "resnet9") else 1.0
    return 1e6 * FORWARD_MFLOP[model.model] * growth * prod(image_shape[1:]) / 32**2


def attack_seconds(
    passes: int, model: TrainSpec, image_shape: tuple[int, ...], classes: int = _CLASSES, *, on_gpu: bool
) -> float:
    """Return about how long so many gradient steps of one image take, on one core or one GPU."""
    step = 2 * forward_flop(model, image_shape, classes)  # forward, and as much again for the gradient
    return passes * step / _FLOP_PER_SECOND[on_gpu]


def training_flop(training: TrainSpec, image_shape: tuple[int, ...], classes: int = _CLASSES) -> float:
    """Return about how many operations the training takes for each of its images."""
    attack = training.adversarial
    steps = 0 if attack is None else attack.passes
    each = (
        3 + 2 * steps
    )  # forward, and twice as much backward; a step of an attack needs no weights' gradients
    return training.epochs * each * forward_flop(training, image_shape, classes)


_STAGE_SECONDS = 0.5
"""Of one core: what a stage costs besides its computation, from its task run to its manifest."""

_START_SECONDS = 20.0
"""Until the servers of a run answer that brings its own."""


def run_seconds(flop: float, stages: int, *, cores: int, gpus: int) -> float:
    """Return about how long so many operations in so many stages take on a machine: its order of magnitude.

    The machine starts servers of its own, and computes a stage on each core, or on each GPU.
    """
    computing = flop / (_FLOP_PER_SECOND[gpus > 0] * (gpus or cores))
    return _START_SECONDS + stages * _STAGE_SECONDS / cores + computing


_PROCESS_BYTES = 700 << 20
"""A Ray worker with torch, Prefect and a small network."""

_FLOP_PER_ACTIVATION_BYTE = 80
"""Of a forward pass in training: between the networks here, a factor of two either way."""


_PARTS_IN_MEMORY = 6
"""Of a split that goes by: those fetched, the one at hand, those on their way into the store."""


def training_bytes(
    training: TrainSpec, image_shape: tuple[int, ...], stored_bytes: int, classes: int = _CLASSES
) -> int:
    """Return about the memory that one process of a training fills, with ``stored_bytes`` of images."""
    share = -(-training.batch_size // training.workers)
    activations = share * forward_flop(training, image_shape, classes) / _FLOP_PER_ACTIVATION_BYTE
    window = min(stored_bytes, WINDOW_PARTS * PART_BYTES)
    return int(_PROCESS_BYTES + 2 * window + activations)  # this window and the next one


def data_bytes(stored_bytes: int) -> int:
    """Return about the memory of a process that holds ``stored_bytes`` of images, as read and as written."""
    return _PROCESS_BYTES + 2 * stored_bytes


def passing_bytes(stored_bytes: int) -> int:
    """Return how much of ``stored_bytes`` of images is in memory at a time when they go by in parts."""
    return min(stored_bytes, _PARTS_IN_MEMORY * PART_BYTES)
