"""Networks <-> bytes, as safetensors: weights and the arguments that rebuild the network."""

import json
from typing import Any

import safetensors
import safetensors.torch

from advfeat.errors import DamagedArtifactError, InputError
from advfeat.models.architectures import build
from advfeat.models.normalized import Normalized


def to_bytes(model: Normalized, architecture: dict[str, Any]) -> bytes:
    """Serialize weights as safetensors, with the arguments of ``build`` in the header."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return safetensors.torch.save(weights, {"architecture": json.dumps(architecture, sort_keys=True)})


def from_bytes(content: bytes) -> Normalized:
    """Rebuild a network in evaluation mode; raises ``DamagedArtifactError``."""
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        model = build(**json.loads(header["__metadata__"]["architecture"]))
        model.load_state_dict(safetensors.torch.load(content))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError, InputError) as error:
        raise DamagedArtifactError(f"the model file cannot be used ({error})") from error
    return model.eval()
