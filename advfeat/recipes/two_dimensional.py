"""Two-dimensional: learning from adversarial points of the unit square, where one can see it (Wallace 2019).

It needs no images: points, networks and attack are those of ``advfeat.methods.two_dimensional``. What
counts is the share of the plane on which old and new network agree; two unrelated ones have one half.
"""

from pydantic import Field

from advfeat.recipes.clean import relabel
from advfeat.recipes.shared.recipe import Axis, Claim, Recipe
from advfeat.spec import Spec


class TwoDimensionalSpec(Spec):
    """Random points of the unit square, two networks, and the attack on the first."""

    planes: int = Field(default=8, ge=1, le=1000, description="planes per seed; the result is their mean")
    points: int = Field(default=32, ge=8, le=1000, description="points, uniform in the unit square")
    eps: float = Field(
        default=0.12, gt=0, le=1, description="radius of the l-infinity ball around each point"
    )
    steps: int = Field(default=40, ge=1, le=10_000, description="gradient steps of the attack")
    hidden: int = Field(default=128, ge=1, le=4096, description="units of each of the two hidden layers")
    epochs: int = Field(default=400, ge=1, le=100_000, description="steps of Adam, each on all points")
    learning_rate: float = Field(default=0.01, gt=0, le=1, description="learning rate of Adam")


class Settings(Spec):
    """Its own settings."""

    two_dimensional: TwoDimensionalSpec = Field(
        default=TwoDimensionalSpec(), description="two_dimensional: points, networks and attack"
    )


def in_words(settings: Settings) -> str:
    """Write planes, networks and attack."""
    spec = settings.two_dimensional
    return (
        f"{spec.planes} planes of {spec.points} points, networks of 2 x {spec.hidden} units "
        f"({spec.epochs} epochs), L-infinity {spec.eps:g}, {spec.steps} steps"
    )


RECIPE = Recipe(
    name="two_dimensional",
    summary="adversarial points in the plane with flipped labels; accuracy: agreement with the old network",
    paper="Wallace 2019",
    claim=Claim(teaches=True, because="the adversarial points trace the old network's boundary"),
    published=None,  # a picture, and 23 of 32 points right: ``points_right`` of the stage
    settings=Settings,
    beyond_dataset=("two_dimensional",),
    in_words=in_words,
    axes=(
        Axis("points", "two_dimensional.points", "points in the unit square, 8 to 1,000; 32 if none"),
        Axis("plane_eps", "two_dimensional.eps", "radii of the l-infinity ball, 0 to 1; 0.12 if none"),
    ),
    relabel=relabel,
    learner="network in the plane",
)
