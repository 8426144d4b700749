"""The card of a data set: what it is, what it was made from and under which licence, how to make it again.

It is read from manifests and labels, so that every data set in a store has one, those of earlier releases
too, and a licence or a word can be mended without computing anything again.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict

from advfeat.datasets.lineage import Link, lineage
from advfeat.datasets.origins import origin_of
from advfeat.datasets.remake import remaking_command
from advfeat.datasets.stored_rows import label_counts
from advfeat.errors import InputError
from advfeat.recipes import RECIPES, plain_name
from advfeat.spec import STORED, TrainSpec
from advfeat.storage import SOURCE_MODELS, Manifest, Store, input_of


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class ImagesRead(_Part):
    """Images that were read from files; ``identity`` says which bytes were meant."""

    role: str
    digest: str
    source: str
    title: str
    licence: str
    licence_stated_by: str
    identity: dict[str, Any]


class SourceModel(_Part):
    """A network that labelled, or was attacked for, a data set; accuracies are fractions.

    One that somebody else trained has ``weights``, and no epochs, training and training accuracy.
    """

    role: str
    digest: str
    architecture: str
    epochs: int | None
    training: dict[str, Any]
    test_accuracy: float
    train_accuracy: float | None
    weights: str | None = None


class Exported(_Part):
    """What became of a data set in an export, where it was measured.

    ``attack_success`` is the share of exported images, rounded as they are, that the source model takes for
    their labels; ``largest_pixel_change`` is what rounding did, pixels in [0, 1].
    """

    format: str
    precision: str
    attack_success: float | None
    largest_pixel_change: float
    real_test: str | None = None
    """The digest of the real images whose test split came along."""


class Card(_Part):
    """What is to be known of a data set, or of real images; accuracies and shares are fractions."""

    digest: str
    stage: str
    title: str
    summary: str
    recipe: str | None
    parameters: dict[str, Any]
    splits: dict[str, int]
    """Rows by split."""
    image_shape: tuple[int, ...]
    """Channels, height, width."""
    classes: tuple[str, ...]
    class_balance: dict[str, dict[str, int]]
    """Images of each class by their labels, by split."""
    wrong_label_share: float | None
    attack_success: float | None
    """Share of the images, as they are stored, that the source model takes for their labels."""
    norm: str | None
    mean_perturbation_norm: float | None
    max_perturbation_norm: float | None
    images: tuple[ImagesRead, ...]
    models: tuple[SourceModel, ...]
    command: str
    made_from: tuple[Link, ...]
    """All artifacts behind it, the data set itself first."""
    created: str
    versions: dict[str, str]
    exported: Exported | None = None

    @property
    def licences(self) -> list[str]:
        """Licences of the inputs, each once."""
        return sorted({images.licence for images in self.images})


def data_set_manifest(store: Store, digest: str) -> Manifest:
    """Read the manifest of a data set or of real images; raises ``InputError`` for anything else."""
    manifest = store.manifest(digest)
    if manifest.stage not in ("dataset", "images"):
        raise InputError(
            "digest", digest[:12], f"is a {manifest.stage}, not a data set", "list them with: advfeat ls"
        )
    return manifest


def card_of(store: Store, digest: str) -> Card:
    """Write the card of a data set, or of real images; reads their labels and some manifests.

    Of the images nothing is read, nor is their SHA-256 compared: ``Store.verify`` does that.
    Raises ``InputError`` for artifacts of other stages, ``MissingArtifactError`` or
    ``DamagedArtifactError`` where it cannot be told what it was made from.
    """
    manifest = data_set_manifest(store, digest)
    metrics, parameters = manifest.metrics, manifest.parameters
    images = manifest if manifest.stage == "images" else input_of(store, manifest, "images", "images")
    parts = {role: store.manifest(part) for role, part in manifest.inputs.items()}
    if "identity" in parameters:
        parts = {manifest.stage: manifest, **parts}
    real = images.metrics
    splits = {split: metrics[f"{split}_size"] for split in ("train", "test") if f"{split}_size" in metrics}
    recipe = parameters.get("recipe")
    source = origin_of(images.parameters["identity"])
    return Card(
        digest=digest,
        stage=manifest.stage,
        title=_title(source.source, parameters),
        summary=source.title if recipe is None else _summary(recipe, metrics),
        recipe=recipe,
        parameters=parameters,
        splits=splits,
        image_shape=real["image_shape"],
        classes=real["classes"],
        class_balance={split: _balance(store, digest, split, real["classes"]) for split in splits},
        wrong_label_share=metrics.get("wrong_label_share"),
        attack_success=metrics.get("attack_success"),
        norm=(parameters.get("attack") or {}).get("norm"),
        mean_perturbation_norm=metrics.get("mean_perturbation_norm"),
        max_perturbation_norm=metrics.get("max_perturbation_norm"),
        images=tuple(_images(role, part) for role, part in parts.items() if "identity" in part.parameters),
        models=tuple(_model(role, part) for role, part in parts.items() if part.stage in SOURCE_MODELS),
        command=remaking_command(store, manifest),
        made_from=tuple(lineage(store, digest).values()),
        created=manifest.created,
        versions=manifest.versions,
    )


def _title(source: str, parameters: dict[str, Any]) -> str:
    if "recipe" not in parameters:
        return source
    seed = f", seed {parameters['seed']}" if "seed" in parameters else ""
    return f"{plain_name(parameters['recipe'])} of {source}{seed}"


def _summary(recipe: str, metrics: dict[str, Any]) -> str:
    """Return what a recipe is in a line; that of somebody's own stands beside the data set."""
    own = metrics.get("own_recipe")
    summary: str = RECIPES[recipe].summary if own is None else own["summary"]
    return summary


def _balance(store: Store, digest: str, split: str, classes: list[str]) -> dict[str, int]:
    counts = label_counts(store, digest, split)
    return {name: counts[label] for label, name in enumerate(classes)}


def _images(role: str, manifest: Manifest) -> ImagesRead:
    origin = origin_of(manifest.parameters["identity"])
    return ImagesRead(
        role=role,
        digest=manifest.digest,
        source=origin.source,
        title=origin.title,
        licence=origin.licence,
        licence_stated_by=origin.stated_by,
        identity=manifest.parameters["identity"],
    )


def _model(role: str, manifest: Manifest) -> SourceModel:
    if manifest.stage == "pretrained_model":
        return SourceModel(
            role=role,
            digest=manifest.digest,
            architecture=manifest.network,
            epochs=None,
            training={},
            test_accuracy=manifest.metrics["test_accuracy"],
            train_accuracy=None,
            weights=manifest.metrics["weights"],
        )
    training = manifest.parameters["training"]
    spec = TrainSpec.model_validate(training, context=STORED)  # one of an earlier release may lack fields
    return SourceModel(
        role=role,
        digest=manifest.digest,
        architecture=spec.model,
        epochs=spec.epochs,
        training=training,
        test_accuracy=manifest.metrics["test_accuracy"],
        train_accuracy=manifest.metrics["train_accuracy"],
    )
