"""Reads manifests: what one of each stage must say for others to read it, and in which form.

A manifest can be whole and sealed and yet say what no stage of ours would: somebody else wrote it.
"""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from advfeat.errors import DamagedArtifactError, first_line
from advfeat.spec import STORED, NetworkName, TrainSpec
from advfeat.storage.manifest import Manifest, Sha256

MOST_MANIFEST_BYTES = 16 << 20

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=1 << 48)]
RecipeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,79}((\.py)?@[0-9a-f]{16})?$")]
"""A store may hold data sets of recipes that are not installed."""

Side = Annotated[int, Field(ge=1, le=1 << 16)]


class _Form(BaseModel):
    model_config = ConfigDict(from_attributes=True, strict=True)


class _OwnRecipe(_Form):
    summary: str
    source: str | None


class _Metrics(_Form):
    own_recipe: _OwnRecipe | None = None
    train_size: Count = 0
    test_size: Count = 0
    wrong_label_share: Share | None = None
    attack_success: Share | None = None
    mean_perturbation_norm: float | None = None
    max_perturbation_norm: float | None = None
    test_accuracy: Share | None = None

    @model_validator(mode="after")
    def _norms_come_together(self) -> Self:
        if (self.mean_perturbation_norm is None) != (self.max_perturbation_norm is None):
            raise ValueError("mean_perturbation_norm and max_perturbation_norm come together")
        return self


class _Attack(_Form):
    norm: str
    eps: float
    steps: int


class _Parameters(_Form):
    identity: dict[str, Any] = {}
    recipe: RecipeName | None = None
    training: TrainSpec | None = None
    attack: _Attack | None = None
    seed: int = 0


class _AnyStage(_Form):
    """What some stages tell and others do not, such as a seed, has one form wherever it is told."""

    metrics: _Metrics
    parameters: _Parameters


class _ImagesMetrics(_Metrics):
    train_size: Count
    test_size: Count
    image_shape: list[Side] = Field(min_length=3, max_length=3)
    classes: list[str] = Field(min_length=1, max_length=100_000)


class _ImagesParameters(_Parameters):
    identity: dict[str, Any] = Field(min_length=1)
    recipe: None = None
    train_size: int | None
    test_size: int | None


class _Images(_AnyStage):
    metrics: _ImagesMetrics
    parameters: _ImagesParameters


class _DatasetMetrics(_Metrics):
    train_size: Count


class _DatasetParameters(_Parameters):
    recipe: RecipeName


class _DatasetInputs(_Form):
    images: Sha256


class _Dataset(_AnyStage):
    metrics: _DatasetMetrics
    parameters: _DatasetParameters
    inputs: _DatasetInputs


class _ModelMetrics(_Metrics):
    train_accuracy: Share
    epoch_losses: list[float]


class _ModelParameters(_Parameters):
    training: TrainSpec
    seed: int


class _Model(_AnyStage):
    metrics: _ModelMetrics
    parameters: _ModelParameters


class _SourceModelMetrics(_ModelMetrics):
    test_accuracy: Share


class _SourceModel(_Model):
    metrics: _SourceModelMetrics


class _EvaluationMetrics(_Metrics):
    test_accuracy: Share


class _Evaluation(_AnyStage):
    metrics: _EvaluationMetrics


class _WeightsMetrics(_Metrics):
    network: NetworkName
    file: str


class _Weights(_AnyStage):
    metrics: _WeightsMetrics


class _PretrainedMetrics(_Metrics):
    test_accuracy: Share
    network: NetworkName
    weights: str


class _PretrainedInputs(_Form):
    weights: Sha256


class _PretrainedModel(_AnyStage):
    metrics: _PretrainedMetrics
    inputs: _PretrainedInputs


_FORMS: dict[str, type[_AnyStage]] = {
    "images": _Images,
    "dataset": _Dataset,
    "source_model": _SourceModel,
    "weights": _Weights,
    "pretrained_model": _PretrainedModel,
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
    """Raise ``ValidationError`` if a manifest lacks or garbles what its stage tells."""
    _FORMS.get(manifest.stage, _AnyStage).model_validate(manifest, context=STORED)
