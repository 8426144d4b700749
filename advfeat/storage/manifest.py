"""What an artifact says of itself: its reference and its manifest."""

import hashlib
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from advfeat.digest import canonical_json, stage_digest

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PlainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$")]
Time = Annotated[str, Field(pattern=r"^[0-9T:.+Z-]{0,40}$")]
"""As ``datetime.isoformat`` writes it."""

_MOST_BYTES = 1 << 60


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StoredFile(_Record):
    """One payload file: ``name`` as stages ask for it, ``path`` as it lies beside the manifest."""

    name: PlainName
    path: PlainName
    bytes: int = Field(ge=0, le=_MOST_BYTES)
    sha256: Sha256


class ArtifactRef(_Record):
    """The small result of a stage that travels between tasks in place of the artifact itself."""

    digest: Sha256
    stage: PlainName
    uri: str
    bytes: int
    created: Time
    metrics: dict[str, Any]


class Manifest(_Record):
    """The file ``manifest.json`` that makes a payload an artifact; it is written last."""

    stage: PlainName
    version: int
    digest: Sha256
    parameters: dict[str, Any]
    inputs: dict[str, Sha256]
    files: tuple[StoredFile, ...]
    metrics: dict[str, Any]
    versions: dict[str, str]
    seconds: float
    created: Time
    checksum: str = ""

    def computed_checksum(self) -> str:
        """SHA-256 of everything else in the manifest; it shows an edited manifest."""
        content = self.model_dump(mode="json", exclude={"checksum"})
        return hashlib.sha256(canonical_json(content)).hexdigest()

    def sealed(self) -> "Manifest":
        """Return this manifest with its checksum filled in."""
        return self.model_copy(update={"checksum": self.computed_checksum()})

    def contradiction(self) -> str | None:
        """Say in what the manifest contradicts itself, or None."""
        if self.checksum != self.computed_checksum():
            return "manifest.json was changed after it was written"
        if self.digest != stage_digest(self.stage, self.version, self.parameters, self.inputs):
            return "manifest.json does not belong to its digest"
        return None

    @property
    def bytes(self) -> int:
        """Size of the payload."""
        return sum(file.bytes for file in self.files)

    @property
    def network(self) -> str:
        """Name of the network that the artifact of a model holds."""
        name: str = self.metrics.get("network") or self.parameters["training"]["model"]
        return name

    def reference(self, uri: str) -> ArtifactRef:
        """Return the reference to this artifact, which lies at ``uri``."""
        return ArtifactRef(
            digest=self.digest,
            stage=self.stage,
            uri=uri,
            bytes=self.bytes,
            created=self.created,
            metrics=self.metrics,
        )
