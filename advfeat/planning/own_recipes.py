"""Tries a user's own recipes before anything is computed: on labels and images that are drawn at random."""

import logging
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advfeat.errors import InputError
from advfeat.extensions.functions import uninstalled_imports
from advfeat.planning.experiment import Experiment
from advfeat.recipes import RECIPES, Given, Making, Recipe, cross_domain, plain_name
from advfeat.recipes.shared.own import code_of_recipes
from advfeat.spec import Spec, TargetedAttack, TrainSpec

logger = logging.getLogger(__name__)

_IMAGES = 4
"""How many images are made; labels are those of as many images as there are."""

_ROUNDING = 1e-4
_MOST_DIFFERING = 0.25
"""By how much pixels may differ, and how many more, as networks round by the size of a batch."""

_DRAWN = 256
"""Rows of probabilities, repeated for all images."""


def check_recipes(experiment: Experiment, image_shape: tuple[int, ...], count: int, classes: int) -> None:
    """Call what own recipes are made of; raises ``InputError`` about ``recipes`` for what cannot be used."""
    names = {plain_name(name) for name in experiment.recipes}
    for name in experiment.recipes:
        recipe = RECIPES[name]
        if not recipe.own:
            continue
        if recipe.control is not None and recipe.control not in RECIPES and recipe.control not in names:
            logger.warning("%s has the control %r, which is not a recipe here", name, recipe.control)
        _check_at_hand(experiment, recipe)
        source = getattr(experiment, recipe.source) if recipe.source is not None else None
        own = experiment.own(recipe.settings)
        attack = experiment.attack if recipe.attacks else None
        _tell_of_imports(name)
        asked = (name, own.model_dump_json(), source, attack, tuple(image_shape), count, classes)
        if asked not in _tried:
            _try(name, own, source, attack, tuple(image_shape), count, classes)
            _tried.add(asked)


@cache
def _tell_of_imports(name: str) -> None:
    for own in code_of_recipes([name]):
        if imported := uninstalled_imports(own.text):
            told = "%s imports %s, which is not installed: workers lack it, and its changes are not noticed"
            logger.warning(told, name, ", ".join(imported))


def _check_at_hand(experiment: Experiment, recipe: Recipe[Any]) -> None:
    """Raise ``InputError`` for a recipe that needs what the experiment does not have."""
    if recipe.source is not None and getattr(experiment, recipe.source) is None:
        raise _refused(recipe.identity, f"needs a {recipe.source}, and there is none", "set robust_source")
    if recipe.originals == "other domain" and experiment.own(cross_domain.Settings).other_data is None:
        raise _refused(recipe.identity, "needs images of another domain", "set other_data.source")
    if recipe.dataset_of is None:
        return
    if recipe.dataset_of not in RECIPES:
        problem = f"learns from the data set of {recipe.dataset_of!r}, which is not a recipe here"
        raise _refused(recipe.identity, problem, f"name one of {', '.join(RECIPES)}")
    of = RECIPES[recipe.dataset_of]
    for name in ("source", "originals", "attacks", "guarded", "dataset_settings"):
        if (wanted := getattr(of, name)) != getattr(recipe, name):
            problem = f"learns from the data set of {of.name!r}, whose {name} is {wanted!r}"
            raise _refused(recipe.identity, problem, f"write replace({of.name}.RECIPE, name=…)")


_tried: set[Any] = set()
"""What has been tried in this process: points of a grid ask again and again."""


def _try(
    name: str,
    own: Spec,
    source: TrainSpec | None,
    attack: TargetedAttack | None,
    image_shape: tuple[int, ...],
    count: int,
    classes: int,
) -> None:
    recipe = RECIPES[name]
    given, again = (_given(name, own, source is not None, count, classes) for _ in range(2))
    labels = recipe.relabel(given)
    if not np.array_equal(labels, recipe.relabel(again)):
        raise _refused(name, "labels the same images differently a second time", "draw only from given.rng")
    if recipe.sample is not None and not np.array_equal(
        recipe.sample(given, labels), recipe.sample(again, labels)
    ):
        raise _refused(name, "samples other rows a second time", "draw only from given.rng")
    recipe.in_words(own)
    if recipe.drawn is not None:
        drawn, other = (recipe.drawn(own, image_shape, np.random.default_rng(0)) for _ in range(2))
        if not np.array_equal(drawn, other):
            raise _refused(name, "draws another image a second time", "draw from the rng that it is given")
    if recipe.make is not None and recipe.originals != "other domain":
        _try_making(recipe, own, source, attack, image_shape, classes)


def _given(name: str, own: Spec, has_source: bool, count: int, classes: int) -> Given[Any]:
    draw = np.random.default_rng(0)

    def probabilities() -> NDArray[np.float32]:
        if not has_source:
            problem = "asks for a source model's probabilities, and names no source"
            raise _refused(name, problem, 'give the recipe source="source"')
        drawn = draw.dirichlet(np.ones(classes), min(count, _DRAWN)).astype(np.float32)
        return np.resize(drawn, (count, classes))

    labels = draw.integers(classes, size=count)
    return Given(
        labels=labels,
        classes=classes,
        rng=np.random.default_rng(1),
        settings=own,
        probabilities=probabilities,
    )


def _try_making(
    recipe: Recipe[Any],
    own: Spec,
    source: TrainSpec | None,
    attack: TargetedAttack | None,
    image_shape: tuple[int, ...],
    classes: int,
) -> None:
    import torch

    from advfeat.models import build

    assert recipe.make is not None
    assert source is not None, "a recipe that makes images names its source"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(source.model, width=source.width, image_shape=image_shape, classes=classes).eval()
        images = torch.rand(_IMAGES, *image_shape)
    numbers = torch.arange(_IMAGES) % classes
    making = Making(
        originals=images,
        labels=numbers,
        own_labels=numbers.flip(0),
        rows=range(_IMAGES),
        count=_IMAGES,
        originals_of=lambda rows: images[torch.as_tensor(list(rows)) % _IMAGES],
        source_model=model,
        guards=(),
        attack=attack and attack.model_copy(update={"steps": 1, "restarts": 0}),
        settings=own,
        seed=0,
        progress=None,
    )
    made, again = recipe.make(making), recipe.make(making)
    if not torch.equal(made, again):
        problem = "makes other images of the same ones a second time"
        raise _refused(recipe.identity, problem, "draw only from making.seed and making.rows")
    last = slice(_IMAGES // 2, _IMAGES)
    parts = {name: getattr(making, name)[last] for name in ("originals", "labels", "own_labels", "rows")}
    differing = (recipe.make(replace(making, **parts)) - made[last]).abs() > _ROUNDING
    if differing.float().mean() > _MOST_DIFFERING:
        problem = "makes other images of the same rows where it is given fewer, as shards are"
        raise _refused(recipe.identity, problem, "draw for each of making.rows by itself")


def _refused(name: str, problem: str, remedy: str) -> InputError:
    return InputError("recipes", name, problem, remedy)
