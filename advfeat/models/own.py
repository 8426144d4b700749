"""Networks that are not ours: of torchvision, of timm, and of functions of the user's own.

A function is called with those of ``channels``, ``classes``, ``width``, ``height`` and ``image_shape``
(channels, height, width) that it takes, and returns a module: images (N, C, H, W) of mean zero and variance
one -> logits (N, classes).
"""

from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from torch import nn

from advfeat.errors import InputError, extra_missing, first_line
from advfeat.extensions import read_function
from advfeat.extensions.functions import called, function_of, is_provided
from advfeat.spec import LIBRARY_NETWORK


def settled_name(field: str, name: str) -> str:
    """Return the name of a network that is not ours, with its version behind an ``@``.

    That is the installed one of a library, or the content of a file, which is read and run. Raises
    ``InputError`` about ``field``.
    """
    if is_provided(name):
        return name
    if (found := LIBRARY_NETWORK.fullmatch(name)) is None:
        return read_function(field, name).name
    library, here = found["library"], _installed(field, name, found["library"])
    if found["version"] not in (None, here):
        problem = f"is of another {library}, installed is {here}"
        raise InputError(field, name, problem, f"install {library} {found['version']}, or leave out the @")
    return f"{library}:{found['name']}@{here}"


def check_at_hand(name: str) -> None:
    """Raise ``InputError`` unless this process can build a network of that name and version."""
    if LIBRARY_NETWORK.fullmatch(name):
        settled_name("model", name)
    else:
        function_of(name)


def own_network(name: str, width: int, image_shape: Sequence[int], classes: int) -> nn.Module:
    """Build an untrained network whose name is no built-in one; raises ``InputError``."""
    channels, height, across = image_shape
    if (found := LIBRARY_NETWORK.fullmatch(name)) is not None:
        settled_name("model", name)
        build = _of_torchvision if found["library"] == "torchvision" else _of_timm
        return build(name, found["name"], image_shape, classes)
    function = function_of(name if "@" in name else settled_name("model", name))
    given = {
        "channels": channels,
        "classes": classes,
        "width": width,
        "image_shape": (channels, height, across),
    }

    def refused(problem: str, remedy: str) -> InputError:
        return InputError("model", name, problem, remedy)

    network = called(function, refused, given)
    if not isinstance(network, nn.Module):
        raise refused(f"returns {type(network).__name__}", "return a torch.nn.Module")
    return network


def _installed(field: str, name: str, library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        raise extra_missing(field, name, library) from None


def _of_torchvision(name: str, wanted: str, image_shape: Sequence[int], classes: int) -> nn.Module:
    import torchvision

    if wanted not in torchvision.models.list_models(module=torchvision.models):
        remedy = "see torchvision.models.list_models()"
        raise InputError("model", name, "is not a network of torchvision", remedy)
    # They return a tuple in training otherwise.
    without = {"aux_logits": False, "init_weights": True} if wanted in ("googlenet", "inception_v3") else {}
    network: nn.Module = torchvision.models.get_model(wanted, weights=None, num_classes=classes, **without)
    _take_channels(network, image_shape[0])
    return network


def _take_channels(network: nn.Module, channels: int) -> None:
    """Let a network's first convolution, of three channels, be one of as many as the images have."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.in_channels == 3 != channels:
            first = nn.Conv2d(
                channels,
                layer.out_channels,
                layer.kernel_size,  # type: ignore[arg-type]
                layer.stride,  # type: ignore[arg-type]
                layer.padding,  # type: ignore[arg-type]
                bias=layer.bias is not None,
            )
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, first)
            return


def _of_timm(name: str, wanted: str, image_shape: Sequence[int], classes: int) -> nn.Module:
    import timm

    if not timm.is_model(wanted):
        raise InputError("model", name, "is not a network of timm", "see timm.list_models()")
    channels, height, across = image_shape
    create = partial(timm.create_model, wanted, pretrained=False, in_chans=channels, num_classes=classes)
    try:
        try:
            network: nn.Module = create(img_size=(height, across))
        except TypeError:  # it takes images of any size
            network = create()
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        problem = f"cannot be built for images of {channels} x {height} x {across} ({first_line(error)})"
        raise InputError("model", name, problem, "choose another model or larger images") from error
    return network
