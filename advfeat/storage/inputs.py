"""Artifacts that others were made from: what a manifest names as an input may be anything in the store."""

from advfeat.errors import DamagedArtifactError
from advfeat.storage.manifest import Manifest
from advfeat.storage.store import Store


def expect_stage(manifest: Manifest, stage: str) -> Manifest:
    """Return the manifest; raises ``DamagedArtifactError`` if it is another stage's."""
    if manifest.stage != stage:
        raise DamagedArtifactError(f"{manifest.digest[:12]} is of stage {manifest.stage}, not {stage}")
    return manifest


def input_of(store: Store, manifest: Manifest, role: str, stage: str) -> Manifest:
    """Read the manifest of an input that must be of this stage.

    Raises ``MissingArtifactError`` or ``DamagedArtifactError``.
    """
    if role not in manifest.inputs:
        raise DamagedArtifactError(f"{manifest.digest[:12]} does not name the {role} that it was made from")
    return expect_stage(store.manifest(manifest.inputs[role]), stage)
