"""Recipes of a user's own for tests, and what plans are made of them."""

import json
from pathlib import Path

from advfeat.planning import Plan, build_plan, load_experiment
from advfeat.storage import Stage

MIRRORED = """
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from advfeat.recipes import Axis, Claim, Recipe
from advfeat.spec import Spec


def rounded(share: float) -> float:
    return round(share, 3)


class Settings(Spec):
    share: Annotated[float, AfterValidator(rounded)] = Field(default=1, ge=0, le=1, description="moved")
    note: str = Field(default="", description="a text")


def relabel(given):
    moved = given.rng.random(len(given.labels)) < given.settings.share
    return np.where(moved, given.classes - 1 - given.labels, given.labels)


RECIPE = Recipe(
    name="mirrored",
    summary="images under the mirrored class",
    claim=Claim(teaches=False, because="the labels are never right"),
    control="clean",
    settings=Settings,
    in_words=lambda settings: f"{100 * settings.share:.0f} % mirrored",
    axes=(Axis("share", "share", "shares of the images that are mirrored"),),
    relabel=relabel,
)
"""
BRIGHTER = """
from advfeat.recipes import Claim, Recipe

RECIPE = Recipe(
    name="brighter",
    summary="brighter images under their labels",
    claim=Claim(teaches=True, because="they are the images"),
    source="weak_source",
    attacks=True,
    relabel=lambda given: given.labels,
    make=lambda making: (making.originals + 0.01 * making.attack.eps).clamp(0, 1),
)
"""
SMALL = ("seeds=[0]", "data.train_size=64", "data.test_size=40", "source.epochs=1", "target.epochs=1")
NARROW = ("weak_source.epochs=2", "shards=1", "attack.steps=2", "target.width=4", "source.width=4")


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def plan(*recipes: Path | str, settings: tuple[str, ...] = ()) -> Plan:
    asked = f"recipes={json.dumps([str(recipe) for recipe in recipes])}"
    return build_plan(load_experiment("digits", [*SMALL, *NARROW, asked, *settings]))


def data_set(made: Plan, recipe: str = "mirrored") -> Stage:
    (found,) = (stage for stage in made.stages if stage.title == f"data set {recipe}, seed 0")
    return found


def changed(before: str, after: str, text: str = MIRRORED) -> str:
    assert before in text
    return text.replace(before, after)


LABELS = "np.where(moved, given.classes - 1 - given.labels, given.labels)"
MADE = "(making.originals + 0.01 * making.attack.eps).clamp(0, 1)"
