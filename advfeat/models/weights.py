"""Weights that somebody else trained: a file of a usual layout -> a network with its normalization.

Layouts that are known: safetensors; state dicts of torch, also below ``state_dict`` or ``model`` of a
checkpoint, with ``module.`` and the like before each name; those of MadryLab's robustness package, with its
normalization; the names that CIFAR's ResNets and wide ResNets have in RobustBench. No code of a file is run.
"""

import hashlib
import io
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from advfeat.errors import InputError, first_line
from advfeat.files.place import Place, place_of
from advfeat.models.architectures import build
from advfeat.models.normalized import Normalized
from advfeat.spec import SourceSpec

_DIGITS = 16
"""Of the SHA-256 of a file, in the name of what it holds."""

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
"""Under which a checkpoint has its state dict, beside epochs and optimizers."""

_OUTER = re.compile(r"(?:module|model|net|network|backbone|_orig_mod|\d+)\.")
"""What DataParallel, torch.compile and wrappers put before each name."""

_STATISTICS = (("new_mean", "new_std"), ("mean", "std"), ("mu", "sigma"))
"""How buffers of a normalization are called."""

_TELLING = ("mtime", "ETag", "etag", "LastModified", "last_modified", "md5", "generation", "version_id")
"""What file systems know of a file that changes with its content."""

_MOST_LAYERS = 6
"""Of wrappers around a network."""

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Weights:
    """The tensors of a file by their names there, where it lies, and the SHA-256 of its content."""

    uri: str
    sha256: str
    tensors: Tensors

    @property
    def name(self) -> str:
        """The file without its folder, and its content: it means the same everywhere."""
        return f"{PurePosixPath(self.uri).name}@{self.sha256[:_DIGITS]}"


@dataclass(frozen=True)
class _Layout:
    """Tensors by names of a network, and the statistics that were beside them."""

    tensors: Tensors
    mean: Tensor | None = None
    std: Tensor | None = None


def read_weights(named: str) -> Weights:
    """Read a file of weights; raises ``InputError`` about ``weights``, also for what is no such file."""
    known = re.fullmatch(rf"(.+)@([0-9a-f]{{{_DIGITS}}})", named, re.DOTALL)
    try:
        place = place_of(_PLACES.get(named) or (known[1] if known else named))
        weights = _read(place, _version(place))
    except InputError:
        raise
    except Exception as error:  # every fsspec back end raises its own
        problem = f"cannot be read ({first_line(error)})"
        remedy = "give a file or URI of weights, or all 64 digits of the digest of a stored model"
        raise InputError("weights", named, problem, remedy) from error
    _PLACES[weights.name] = weights.uri
    if known and not weights.sha256.startswith(known[2]):
        problem = f"has other content now, {weights.name}"
        raise InputError("weights", named, problem, "restore the one that you mean, or omit the @")
    return weights


def fitted(weights: Weights, spec: SourceSpec, image_shape: Sequence[int], classes: int) -> Normalized:
    """Return the network of a spec with these weights, in evaluation mode.

    Its normalization is the spec's, else the file's, else none: pixels in [0, 1] as they are. Raises
    ``InputError`` about ``weights``, or ``mean`` and ``std``, where they do not fit.
    """

    def refused(problem: str, remedy: str) -> InputError:
        return InputError("weights", weights.name, problem, remedy)

    with torch.random.fork_rng(devices=[]):
        model = build(spec.model, width=spec.width, image_shape=image_shape, classes=classes)
    expected = model.network.state_dict()
    tried = [(_differences(layout.tensors, expected), layout) for layout in _layouts(weights.tensors)]
    differences, layout = min(tried, key=lambda each: len(each[0]))
    if differences:
        raise refused(*_complaint(differences, layout.tensors, expected, spec.model, classes))
    state = {name: layout.tensors.get(name, tensor) for name, tensor in expected.items()}
    for name, tensor in state.items():
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise refused(f"has {name} as {tensor.dtype}", "give weights that are not quantized")
        if not tensor.isfinite().all():
            raise refused(f"has values in {name} that are not finite", "give other weights")
    model.network.load_state_dict(state)
    mean, std = _statistics(spec, layout, image_shape[0])
    if mean is not None and std is not None:
        model.set_statistics(mean, std)
    return model.eval()


_PLACES: dict[str, str] = {}
"""Where files lie whose names this process knows."""


def _version(place: Place) -> str:
    """Return what tells a file from the one that lay there before; unlike all else where nothing does."""
    told = {name: value for name, value in place.fs.info(place.root).items() if name in _TELLING}
    return repr(sorted(told.items())) if told else str(time.monotonic_ns())


@lru_cache(maxsize=2)
def _read(place: Place, _version: str) -> Weights:
    content = place.fs.cat_file(place.root)
    return Weights(place.uri, hashlib.sha256(content).hexdigest(), _tensors(content, place.uri))


def _tensors(content: bytes, named: str) -> Tensors:
    def refused(problem: str, remedy: str) -> InputError:
        return InputError("weights", named, problem, remedy)

    try:
        if named.endswith(".safetensors"):
            found: Any = safetensors.torch.load(content)
        else:
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # of whatever the file is instead
        problem = "holds no weights that can be read without running code of the file"
        raise refused(problem, "save model.state_dict(), by torch.save or as safetensors") from error
    while isinstance(found, Mapping):
        if inner := [found[name] for name in _WRAPPERS if isinstance(found.get(name), Mapping)]:
            found = inner[0]
            continue
        tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
        there = ", ".join(map(str, list(found)[:8]))
        raise refused(f"holds no tensors by name, but {there or 'nothing'}", "give a state dict")
    raise refused(f"holds {type(found).__name__}", "give a state dict: names and their tensors")


def _layouts(tensors: Tensors) -> Iterator[_Layout]:
    """Yield what the tensors may be, as they are first, then with what is around a network taken off."""
    layout = _Layout(tensors)
    for _ in range(_MOST_LAYERS):
        yield layout
        yield from (_Layout(named, layout.mean, layout.std) for named in _other_names(layout.tensors))
        inner = _without_outermost(layout)
        if inner is None:
            return
        layout = inner


def _without_outermost(layout: _Layout) -> _Layout | None:
    """Take off statistics, an attacker's copy, or what stands before all names."""
    tensors = layout.tensors
    for mean, std in _STATISTICS:
        for name in tensors:
            before, _, last = name.rpartition(".")
            other = f"{before}.{std}".lstrip(".")
            if last == mean and other in tensors:
                rest = {key: value for key, value in tensors.items() if key not in (name, other)}
                return _Layout(rest, tensors[name].flatten(), tensors[other].flatten())
    without = {name: value for name, value in tensors.items() if not name.startswith("attacker.")}
    if len(without) < len(tensors):
        return _Layout(without, layout.mean, layout.std)
    outer = {found[0] if (found := _OUTER.match(name)) else "" for name in tensors}
    if len(outer) != 1 or "" in outer:
        return None
    (prefix,) = outer
    return _Layout(
        {name.removeprefix(prefix): value for name, value in tensors.items()}, layout.mean, layout.std
    )


def _other_names(tensors: Tensors) -> Iterator[Tensors]:
    """Yield the tensors of CIFAR's networks under the names that ours have."""
    yield {
        re.sub(r"^linear\.", "fc.", name.replace(".shortcut.", ".downsample.")): value
        for name, value in tensors.items()
    }
    blocks = [re.match(r"block(\d)\.layer\.(\d+)\.", name) for name in tensors]
    each = 1 + max((int(found[2]) for found in blocks if found), default=0)
    yield {_of_wide_resnet(name, each): value for name, value in tensors.items()}


_PARTS_OF_BLOCKS = {
    "bn1": "activate.0",
    "conv1": "convolve.0",
    "bn2": "convolve.1",
    "conv2": "convolve.3",
    "convShortcut": "project",
}


def _of_wide_resnet(name: str, blocks: int) -> str:
    """Return our name of a tensor of RobustBench's wide ResNet, of three groups of so many blocks."""
    if found := re.fullmatch(r"block(\d)\.layer\.(\d+)\.(\w+)\.(\w+)", name):
        group, block, part, last = found.groups()
        number = 1 + (int(group) - 1) * blocks + int(block)
        return f"{number}.{_PARTS_OF_BLOCKS.get(part, part)}.{last}"
    first, _, last = name.rpartition(".")
    place = {"conv1": 0, "bn1": 1 + 3 * blocks, "fc": 5 + 3 * blocks}.get(first)
    return name if place is None else f"{place}.{last}"


def _differences(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> set[str]:
    """Name the tensors that are missing, left over, or of another shape; counters of batches may lack."""
    missing = {name for name in expected.keys() - tensors.keys() if not name.endswith("num_batches_tracked")}
    other = {name for name in tensors.keys() & expected.keys() if tensors[name].shape != expected[name].shape}
    return missing | (tensors.keys() - expected.keys()) | other


def _complaint(
    differences: set[str], tensors: Tensors, expected: Mapping[str, Tensor], model: str, classes: int
) -> tuple[str, str]:
    """Return what is wrong, and the remedy."""
    shapes = [name for name in expected if name in differences and name in tensors]
    if len(shapes) == len(differences) and all(expected[name].shape[:1] == (classes,) for name in shapes):
        known = tensors[shapes[0]].shape[:1]
        if all(tensors[name].shape[:1] == known for name in shapes):
            problem = f"knows {known[0] if known else 1} classes, the images have {classes}"
            return problem, "give weights for these classes"
    told = {
        "missing": [name for name in expected if name in differences and name not in tensors],
        "left over": [name for name in tensors if name in differences and name not in expected],
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)} for {tuple(expected[name].shape)}" for name in shapes
        ],
    }
    parts = [
        f"{what}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for what, names in told.items()
        if names
    ]
    problem = f"is of another network than {model} ({'; '.join(parts)})"
    return problem, "name its network as model, also FILE.py:FUNCTION, and its width"


def _statistics(
    spec: SourceSpec, layout: _Layout, channels: int
) -> tuple[Tensor, Tensor] | tuple[None, None]:
    if spec.mean is None or spec.std is None:
        if layout.mean is None or layout.std is None:
            return None, None
        mean, std = layout.mean.float(), layout.std.float()
    else:
        mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
    for name, values in (("mean", mean), ("std", std)):
        if values.numel() not in (1, channels):
            problem = f"has {values.numel()} values, the images have {channels} channels"
            raise InputError(name, values.tolist(), problem, "give one for each channel")
        if not ((values >= 0) & (values <= 1)).all():
            raise InputError(name, values.tolist(), "is not of pixels in [0, 1]", "divide it by 255")
    return mean.expand(channels), std.expand(channels)
