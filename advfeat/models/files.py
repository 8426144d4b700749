"""Networks <-> bytes, as safetensors: weights and the arguments that rebuild the network."""

from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from advfeat.errors import DamagedArtifactError, InputError, first_line
from advfeat.files.tensor_file import check_alike, pack, unpack
from advfeat.models.architectures import build
from advfeat.models.normalized import Normalized
from advfeat.spec import ModelName

Side = Annotated[int, Field(ge=1, le=65_536)]


class _Architecture(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: ModelName
    width: int = Field(ge=1, le=65_536)
    image_shape: tuple[Side, Side, Side]
    classes: int = Field(ge=1, le=1_000_000)


def to_bytes(model: Normalized, architecture: dict[str, Any]) -> bytes:
    """Serialize weights as safetensors, with the arguments of ``build`` in the header."""
    return pack(model.state_dict(), {"architecture": architecture})


def from_bytes(content: bytes) -> Normalized:
    """Rebuild a network in evaluation mode; raises ``DamagedArtifactError``.

    It takes as much memory as the weights that are there, whatever the header says of the network.
    """
    try:
        tensors, header = unpack(content, "architecture")
        architecture = _Architecture.model_validate_json(header)
        with torch.device("meta"):
            model = build(**architecture.model_dump())
        check_alike(tensors, model.state_dict())
        model.to_empty(device="cpu").load_state_dict(tensors)
    except (ValidationError, ValueError, RuntimeError, TypeError, InputError) as error:
        raise DamagedArtifactError(f"the model file cannot be used ({first_line(error)})") from error
    return model.eval()
