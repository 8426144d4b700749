"""Imported: a finished data set under its own labels, made elsewhere or exported from here.

Ilyas et al. published four for CIFAR-10: from robust_CIFAR 84 % clean and 48 % robust accuracy (L2 0.25),
non_robust_CIFAR 88 % and 0 %, drand_CIFAR 63 % and 0 %, ddet_CIFAR 44 % and 0 % (README of
MadryLab/constructed-datasets).
"""

from typing import Annotated, Any

from pydantic import Field

from advfeat.recipes.clean import relabel
from advfeat.recipes.shared.recipe import Axis, Claim, Recipe
from advfeat.spec import Spec

FinishedSet = Annotated[str, Field(pattern="^(torch|numpy|parquet):.")]
"""Where a finished data set lies."""


class Settings(Spec):
    """Its own settings."""

    imported: FinishedSet | None = Field(
        default=None,
        description="imported: the finished data set, torch:FOLDER-OR-URI (CIFAR_ims and CIFAR_lab), "
        "numpy:PATH-OR-URI or parquet:PATH-OR-URI, of images like those of data and of their classes",
    )


def missing(experiment: Any) -> str | None:
    """Ask for the data set."""
    if experiment.imported is not None:
        return None
    return "needs the field imported, a finished data set, for imported"


RECIPE = Recipe(
    name="imported",
    summary="an existing data set with its own labels",
    claim=Claim(teaches=True, because="it was published as a data set that teaches the classes"),
    published=None,  # a figure a data set
    control="shuffled",
    settings=Settings,
    beyond_dataset=("imported",),
    missing=missing,
    axes=(
        Axis(
            "imported",
            "imported",
            "where the data sets lie: torch:FOLDER-OR-URI (CIFAR_ims and CIFAR_lab), numpy:PATH-OR-URI or "
            "parquet:PATH-OR-URI",
            values=FinishedSet,
            required=True,
        ),
    ),
    relabel=relabel,
    originals="unknown",
)
