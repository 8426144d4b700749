"""Networks <-> bytes, as safetensors: weights and the arguments that rebuild the network."""

from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from advfeat.errors import DamagedArtifactError, InputError, first_line
from advfeat.files.tensor_file import check_alike, pack, unpack
from advfeat.models.architectures import build
from advfeat.models.normalized import Normalized
from advfeat.models.own import check_at_hand
from advfeat.spec import NetworkName, is_own

Side = Annotated[int, Field(ge=1, le=65_536)]


class Architecture(BaseModel):
    """What rebuilds a network: the arguments of ``build``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: NetworkName
    width: int = Field(ge=1, le=65_536)
    image_shape: tuple[Side, Side, Side]
    classes: int = Field(ge=1, le=1_000_000)


def architecture_of(content: bytes) -> Architecture:
    """Return what network a file holds; raises ``DamagedArtifactError``."""
    return _unpacked(content)[0]


def to_bytes(model: Normalized, architecture: dict[str, Any]) -> bytes:
    """Serialize weights as safetensors, with the arguments of ``build`` in the header."""
    return pack(model.state_dict(), {"architecture": architecture})


def from_bytes(content: bytes) -> Normalized:
    """Rebuild a network in evaluation mode; raises ``DamagedArtifactError``.

    It takes as much memory as the weights that are there, whatever the header says of the network. Of one
    of the user's own it takes what its function makes, which must be at hand (``advfeat.extensions``): raises
    ``InputError`` if it is not.
    """
    architecture, tensors = _unpacked(content)
    own = is_own(architecture.name)
    if own:
        check_at_hand(architecture.name)
    try:
        with torch.random.fork_rng(devices=[]) if own else torch.device("meta"):
            model = build(**architecture.model_dump())
        check_alike(tensors, model.state_dict())
        model = model if own else model.to_empty(device="cpu")
        state = model.state_dict()  # which says besides by which version of its classes it was written
        state.update(tensors)
        model.load_state_dict(state)
    except (ValidationError, ValueError, RuntimeError, TypeError, InputError) as error:
        raise DamagedArtifactError(f"the model file cannot be used ({first_line(error)})") from error
    return model.eval()


def _unpacked(content: bytes) -> tuple[Architecture, dict[str, Tensor]]:
    try:
        tensors, header = unpack(content, "architecture")
        return Architecture.model_validate_json(header), tensors
    except (ValidationError, ValueError) as error:
        raise DamagedArtifactError(f"the model file cannot be used ({first_line(error)})") from error
