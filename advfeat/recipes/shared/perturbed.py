"""How recipes make adversarial examples."""

from typing import TYPE_CHECKING, Any

from advfeat.recipes.shared.recipe import Making

if TYPE_CHECKING:
    from torch import Tensor


def perturbed(making: Making[Any]) -> "Tensor":
    """Perturb the originals until the source model takes them for their labels' classes.

    (Ilyas et al. 2019, section 3.2.)
    """
    from advfeat.attacks import choose_engine, perturb
    from advfeat.hardware import device

    assert making.attack is not None
    attack, model = making.attack, making.source_model.to(device())
    return perturb(
        model,
        making.originals,
        making.labels,
        attack,
        seed=making.seed,
        rows=making.rows,
        # The whole data set's work decides, not the shard's: all shards choose the same engine.
        engine=choose_engine(model, making.originals[:1], attack.precision, making.count * attack.passes),
        progress=making.progress,
    )
