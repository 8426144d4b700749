"""Reads manifests: what one of each stage must say for others to read it, and in which form.

A manifest can be whole and sealed and yet say what no stage of ours would: somebody else wrote it.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from advfeat.artifact import Manifest, Sha256
from advfeat.errors import DamagedArtifactError, first_line
from advfeat.spec import RecipeName, TrainSpec

MOST_MANIFEST_BYTES = 16 << 20

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=1 << 48)]
Side = Annotated[int, Field(ge=1, le=1 << 16)]


class _Form(BaseModel):
    model_config = ConfigDict(from_attributes=True, strict=True)


class _ImagesMetrics(_Form):
    train_size: Count
    test_size: Count
    image_shape: list[Side] = Field(min_length=3, max_length=3)
    classes: list[str] = Field(min_length=1, max_length=100_000)


class _ImagesParameters(_Form):
    identity: dict[str, Any] = Field(min_length=1)
    train_size: int | None
    test_size: int | None


class _Images(_Form):
    stage: Literal["images"]
    metrics: _ImagesMetrics
    parameters: _ImagesParameters


class _DatasetMetrics(_Form):
    train_size: Count
    wrong_label_share: Share | None = None
    attack_success: Share | None = None
    mean_perturbation_norm: float | None = None
    max_perturbation_norm: float | None = None

    @model_validator(mode="after")
    def _norms_come_together(self) -> Self:
        if (self.mean_perturbation_norm is None) != (self.max_perturbation_norm is None):
            raise ValueError("mean_perturbation_norm and max_perturbation_norm come together")
        return self


class _Attack(_Form):
    norm: str
    eps: float
    steps: int


class _DatasetParameters(_Form):
    recipe: RecipeName
    attack: _Attack | None = None
    seed: int = 0
    identity: dict[str, Any] | None = None


class _DatasetInputs(_Form):
    images: Sha256
    source_model: Sha256 | None = None


class _Dataset(_Form):
    stage: Literal["dataset"]
    metrics: _DatasetMetrics
    parameters: _DatasetParameters
    inputs: _DatasetInputs


class _ModelMetrics(_Form):
    train_accuracy: Share
    epoch_losses: list[float]


class _ModelParameters(_Form):
    training: TrainSpec
    seed: int


class _Model(_Form):
    stage: Literal["source_model", "target_model"]
    metrics: _ModelMetrics
    parameters: _ModelParameters


class _SourceModelMetrics(_ModelMetrics):
    test_accuracy: Share


class _SourceModel(_Model):
    metrics: _SourceModelMetrics


class _EvaluationMetrics(_Form):
    test_accuracy: Share


class _Evaluation(_Form):
    stage: Literal["evaluation"]
    metrics: _EvaluationMetrics


_FORMS: dict[str, type[_Form]] = {
    "images": _Images,
    "dataset": _Dataset,
    "source_model": _SourceModel,
    "target_model": _Model,
    "evaluation": _Evaluation,
}


def parse_manifest(content: bytes) -> Manifest:
    """Return the manifest that is written in a file.

    Raises ``DamagedArtifactError`` if it is too large, unreadable, or was edited.
    """
    if len(content) > MOST_MANIFEST_BYTES:
        raise DamagedArtifactError(f"manifest.json is larger than {MOST_MANIFEST_BYTES >> 20} MiB")
    try:
        manifest = Manifest.model_validate_json(content)
        contradiction = manifest.contradiction()
        if contradiction is None:
            _check_contents(manifest)
    except (ValidationError, ValueError) as error:
        raise DamagedArtifactError(f"manifest.json is unreadable ({first_line(error)})") from None
    if contradiction is not None:
        raise DamagedArtifactError(contradiction)
    return manifest


def _check_contents(manifest: Manifest) -> None:
    """Raise ``ValidationError`` if a manifest lacks what a stage of its name tells."""
    if form := _FORMS.get(manifest.stage):
        form.model_validate(manifest)
