"""Artifacts that others were made from: what a manifest names as an input may be anything in the store."""

from advfeat.errors import DamagedArtifactError
from advfeat.storage.manifest import Manifest
from advfeat.storage.store import Store


def expect_stage(manifest: Manifest, *stages: str) -> Manifest:
    """Return the manifest; raises ``DamagedArtifactError`` if it is of none of these stages."""
    if manifest.stage not in stages:
        wanted = " or ".join(stages)
        raise DamagedArtifactError(f"{manifest.digest[:12]} is of stage {manifest.stage}, not {wanted}")
    return manifest


def input_of(store: Store, manifest: Manifest, role: str, *stages: str) -> Manifest:
    """Read the manifest of an input that must be of one of these stages.

    Raises ``MissingArtifactError`` or ``DamagedArtifactError``.
    """
    if role not in manifest.inputs:
        raise DamagedArtifactError(f"{manifest.digest[:12]} does not name the {role} that it was made from")
    return expect_stage(store.manifest(manifest.inputs[role]), *stages)
