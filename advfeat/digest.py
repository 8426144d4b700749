"""What makes two artifacts the same: one canonical form, one digest."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20


def canonical_json(value: object) -> bytes:
    """Serialize a JSON value in the one form that digests are taken of.

    Keys are sorted, there is no white space, text is ASCII-escaped; NaN and infinity raise
    ``ValueError``.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def stage_digest(stage: str, version: int, parameters: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Compute the digest (64 hexadecimal digits) that addresses a stage's artifact.

    ``inputs`` maps each role to the digest of the artifact that plays it.
    """
    identity = {
        "stage": stage,
        "version": version,
        "parameters": dict(parameters),
        "inputs": dict(inputs),
    }
    return hashlib.sha256(canonical_json(identity)).hexdigest()


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a local file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stream_sha256(file: Any) -> tuple[str, int]:
    """Compute the SHA-256 (hexadecimal) and the length in bytes of an open binary file."""
    sha, length = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK_BYTES):
        sha.update(chunk)
        length += len(chunk)
    return sha.hexdigest(), length


def derived_seed(*parts: object) -> int:
    """Derive an independent 63-bit seed from a base seed and what it is for.

    ``derived_seed(0, "source_model")`` and ``derived_seed(0, "target_model")`` share nothing, so a
    target model never starts from its source model's weights.
    """
    return int.from_bytes(hashlib.sha256(canonical_json(parts)).digest()[:8], "big") >> 1
