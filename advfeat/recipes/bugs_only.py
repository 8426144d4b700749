"""Bugs only: D_det from adversarial examples that no other network falls for (Nakkiran, Distill 2019).

They move the source model as D_det's do, but carry no features: the control that must not teach.
"""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from advfeat.recipes import d_det
from advfeat.recipes.shared.recipe import Axis, Claim, Making, Published, Recipe

if TYPE_CHECKING:
    from torch import Tensor


class Settings(d_det.Settings):
    """Its own settings, and D_det's."""

    guards: int = Field(
        default=4,
        ge=1,
        le=100,
        description="bugs_only: how many further source models the examples must not transfer to",
    )


def perturbed_without_transfer(making: Making[Any]) -> "Tensor":
    """Perturb the originals so that the source model alone changes its mind."""
    from advfeat.attacks import choose_engine
    from advfeat.hardware import device
    from advfeat.methods.bugs_only import ModelAndGuards, perturb_without_transfer

    assert making.attack is not None
    attack, model = making.attack, making.source_model.to(device())
    guards = [guard.to(device()) for guard in making.guards]
    network, passes = ModelAndGuards(model, guards, attack), making.count * attack.passes
    return perturb_without_transfer(
        model,
        guards,
        making.originals,
        making.labels,
        making.own_labels,
        attack,
        seed=making.seed,
        rows=making.rows,
        # As in ``perturbed``, the whole data set's work decides.
        engine=choose_engine(network, making.originals[:1], attack.precision, passes),
        progress=making.progress,
    )


def in_words(settings: Settings) -> str:
    """Write the permutation, if it is one of its own, and how many guards there are."""
    guards = f"{settings.guards} guard{'s' if settings.guards > 1 else ''}"
    return ", ".join(filter(None, [d_det.in_words(settings), guards]))


_SOURCE = "Nakkiran 2019, distill.pub/2019/advex-bugs-discussion/response-5"
_NETWORKS = {
    "data.source": "cifar10",
    "data.train_size": None,
    "source.model": "resnet18",
    "target.model": "resnet18",
    "attack.steps": 10,
    "guards": 10,
}

RECIPE = Recipe(
    name="bugs_only",
    summary="adversarial images that fool no other network, labelled with the next class",
    paper="Nakkiran 2019",
    claim=Claim(teaches=False, because="what does not transfer is not a feature of the data"),
    published=Published(
        0.028,
        "CIFAR-10, ResNet-18, L2 eps 2.5, 10 steps, 10 guards; D_det in that setting: 33.2 %",
        _SOURCE,
        settings={**_NETWORKS, "attack.norm": "l2", "attack.eps": 2.5},
    ),
    also_published=(
        Published(
            0.025,
            "CIFAR-10, ResNet-18, L-infinity eps 8/255, 10 steps, 10 guards; D_det in that setting: 23.7 %",
            _SOURCE,
            settings={**_NETWORKS, "attack.norm": "linf", "attack.eps": 8 / 255},
        ),
    ),
    control="d_det",
    source="source",
    settings=Settings,
    beyond_dataset=("guards",),
    in_words=in_words,
    axes=(
        Axis(
            "guards",
            "guards",
            "how many further source models they must not transfer to, 1 to 100; 4 if none",
        ),
    ),
    attacks=True,
    relabel=d_det.relabel,
    make=perturbed_without_transfer,
    passes=lambda experiment: experiment.attack.passes * (1 + experiment.guards),
    guarded=True,
    transfers=True,
)
