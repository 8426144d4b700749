"""Content-addressed artifacts on any fsspec URI: stages, their manifests, and what runs used."""

from advfeat.storage.contents import MOST_MANIFEST_BYTES, parse_manifest
from advfeat.storage.inputs import expect_stage, input_of
from advfeat.storage.manifest import ArtifactRef, Manifest, StoredFile
from advfeat.storage.stage import MODELS, SOURCE_MODELS, STAGE_VERSIONS, Stage, StageKind
from advfeat.storage.store import Store

__all__ = [
    "MODELS",
    "MOST_MANIFEST_BYTES",
    "SOURCE_MODELS",
    "STAGE_VERSIONS",
    "ArtifactRef",
    "Manifest",
    "Stage",
    "StageKind",
    "Store",
    "StoredFile",
    "expect_stage",
    "input_of",
    "parse_manifest",
]
