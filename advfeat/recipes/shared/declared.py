"""Checks what a user's own recipe declares: what is no choice there would be passed over in silence."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from advfeat.extensions.functions import Refused
from advfeat.recipes.shared.recipe import Axis, Claim, Recipe, SourceRole
from advfeat.spec import Spec

NO_SETTINGS = ("recipe", "seed", "identity", "labels", "rows")
"""Parameters of a data set's stages that are no settings; a setting of such a name would take their place."""

_ORIGINALS = ("images", "other domain", "noise")
_LEARNERS = ("network", "robust linear features")
_OF_A_SOURCE = ("attacks", "make", "soft_labels", "guarded")


def check_declared(recipe: Recipe[Any], refused: Refused) -> None:
    """Raise what ``refused`` makes for a recipe that cannot be what it says."""
    for name, value, kind, said in _typed(recipe):
        if not isinstance(value, kind):
            raise refused(f"has {name} of {value!r}", f"give {said}")
    if not recipe.summary.isprintable():
        raise refused(f"has summary of {recipe.summary!r}", "write it in one line")
    for name in ("relabel", "in_words", "missing", "passes", "sample", "make", "drawn"):
        function = getattr(recipe, name)
        if not callable(function) and (function is not None or name in ("relabel", "in_words")):
            raise refused(f"has {name} of {function!r}", "give a function")
    for name, choices in _chosen():
        if (value := getattr(recipe, name)) not in choices:
            raise refused(f"has {name} of {value!r}", f"choose from {', '.join(map(repr, choices))}")
    for name in _OF_A_SOURCE:
        if getattr(recipe, name) and recipe.source is None:
            raise refused(f"has {name}, and names no source", 'give it source="source"')
    if recipe.attacks and recipe.make is None:
        raise refused("attacks, and makes no images", "give it make=perturbed, or leave out attacks")
    if (recipe.originals == "noise") != (recipe.drawn is not None):
        raise refused('has originals="noise" without drawn, or drawn without it', "declare both, or neither")
    _check_settings(recipe, refused)


def _typed(recipe: Recipe[Any]) -> Iterator[tuple[str, object, Any, str]]:
    """Yield fields with their values, types, and what to give."""
    texts = ("summary", "paper", "page", "control", "labels_of", "dataset_of")
    for name in texts[:3]:
        yield name, getattr(recipe, name), str, "a text"
    for name in texts[3:]:
        yield name, getattr(recipe, name), str | None, "the name of a recipe"
    yield "claim", recipe.claim, Claim, "Claim(teaches=…, because=…)"
    yield "axes", recipe.axes, tuple, "a tuple: axes=(Axis(…),)"
    for axis in recipe.axes if isinstance(recipe.axes, tuple) else ():
        yield "an axis", axis, Axis, "Axis(NAME, FIELD, DESCRIPTION)"
    yield "beyond_dataset", recipe.beyond_dataset, tuple, "a tuple of settings' names"


def _chosen() -> Iterator[tuple[str, Sequence[object]]]:
    """Yield fields with the values that they may have."""
    yield "source", (None, *get_args(SourceRole))
    yield "originals", _ORIGINALS
    yield "learner", _LEARNERS
    for name in ("attacks", "guarded", "soft_labels", "transfers"):
        yield name, (False, True)


def _check_settings(recipe: Recipe[Any], refused: Refused) -> None:
    settings = recipe.settings
    if not (isinstance(settings, type) and issubclass(settings, Spec)):
        raise refused(f"has settings of {settings!r}", "give a class that inherits advfeat.spec.Spec")
    for name, field in settings.model_fields.items():
        if field.is_required():
            raise refused(
                f"has no default for its setting {name}", "give one, so that experiments need not set it"
            )
        if name in NO_SETTINGS or hasattr(Spec, name):
            raise refused(f"has a setting {name}, a name that is taken", "give its setting another name")
        if field.alias is not None or field.validation_alias is not None or field.exclude:
            raise refused(
                f"has an alias of its setting {name}, or excludes it", "give only default and bounds"
            )
        if isinstance(field.get_default(call_default_factory=True), set | frozenset):
            raise refused(f"has a set as its setting {name}, which has no order", "give a tuple")
    for name in recipe.beyond_dataset:
        if name not in settings.model_fields:
            raise refused(f"has beyond_dataset of {name!r}", "name settings of its own")
