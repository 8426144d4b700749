"""Models of the store that a plan takes for source models: there, and of the plan's images."""

from advfeat.errors import DamagedArtifactError, InputError
from advfeat.storage import MODELS, Stage, Store

_FIELD = "source.weights"


def check_stored_models(stages: tuple[Stage, ...], store: Store) -> None:
    """Raise ``InputError`` about a model by digest that the store lacks, or that is of other images."""
    planned = {stage.digest for stage in stages if stage.kind in MODELS}
    for stage in stages:
        if stage.kind == "pretrained_model" and (digest := stage.inputs["weights"]) not in planned:
            _check(digest, stage, store)


def _check(digest: str, stage: Stage, store: Store) -> None:
    def refused(
        problem: str, remedy: str = "advfeat ls --stage source_model lists what is there"
    ) -> InputError:
        return InputError(_FIELD, digest[:12], problem, remedy)

    manifest, loss = store.state(digest)
    if manifest is None:
        raise refused("is not in the store" if loss is None else loss)
    if manifest.stage not in MODELS:
        raise refused(f"is of stage {manifest.stage}, not a model")
    from advfeat.models.files import architecture_of

    try:
        known = architecture_of(store.read(digest, "model.safetensors"))
    except DamagedArtifactError as error:
        raise refused(f"is damaged: {error}") from None
    if known.classes != stage.parameters["classes"]:
        problem = f"knows {known.classes} classes, the images have {stage.parameters['classes']}"
        raise refused(problem, "give one for these classes")
    if list(known.image_shape) != stage.parameters["image_shape"]:
        theirs, ours = (
            " x ".join(map(str, shape)) for shape in (known.image_shape, stage.parameters["image_shape"])
        )
        raise refused(f"is for images of {theirs}, these are {ours}", "set data.image_size, or give another")
