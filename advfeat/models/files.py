"""Networks <-> bytes, as safetensors: weights and the arguments that rebuild the network."""

from typing import Any

import safetensors
import safetensors.torch

from advfeat.errors import DamagedArtifactError, InputError
from advfeat.models.architectures import build
from advfeat.models.normalized import Normalized
from advfeat.tensor_file import pack, read_header


def to_bytes(model: Normalized, architecture: dict[str, Any]) -> bytes:
    """Serialize weights as safetensors, with the arguments of ``build`` in the header."""
    return pack(model.state_dict(), {"architecture": architecture})


def from_bytes(content: bytes) -> Normalized:
    """Rebuild a network in evaluation mode; raises ``DamagedArtifactError``."""
    try:
        model = build(**read_header(content, "architecture"))
        model.load_state_dict(safetensors.torch.load(content))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError, InputError) as error:
        raise DamagedArtifactError(f"the model file cannot be used ({error})") from error
    return model.eval()
