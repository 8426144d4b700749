"""The recipes, one file each: how images get the labels that a target model learns from.

They import what computes when they compute: a flow lays out its stages without torch.
"""

from advfeat.recipes.bugs_only import BUGS_ONLY
from advfeat.recipes.clean import CLEAN
from advfeat.recipes.cross_domain import CROSS_DOMAIN
from advfeat.recipes.d_det import D_DET
from advfeat.recipes.d_rand import D_RAND
from advfeat.recipes.distillation import DISTILLATION
from advfeat.recipes.features import NON_ROBUST_FEATURES, ROBUST_FEATURES
from advfeat.recipes.imported import IMPORTED
from advfeat.recipes.label_noise import LABEL_NOISE
from advfeat.recipes.leakage import LEAKAGE, LEAKAGE_D_DET
from advfeat.recipes.least_likely import LEAST_LIKELY
from advfeat.recipes.mislabeled import MISLABELED
from advfeat.recipes.most_confused import MOST_CONFUSED
from advfeat.recipes.perturbation_on_noise import PERTURBATION_ON_NOISE
from advfeat.recipes.shared.recipe import DROPPED, Claim, Given, Making, Published, Recipe, SourceRole
from advfeat.recipes.shuffled import SHUFFLED
from advfeat.recipes.transfer import TRANSFER, TRANSFER_D_RAND
from advfeat.recipes.two_dimensional import TWO_DIMENSIONAL
from advfeat.spec import RecipeName

__all__ = ["DROPPED", "RECIPES", "Claim", "Given", "Making", "Published", "Recipe", "SourceRole"]

RECIPES: dict[RecipeName, Recipe] = {
    recipe.name: recipe
    for recipe in (
        CLEAN,
        D_RAND,
        D_DET,
        LEAST_LIKELY,
        MOST_CONFUSED,
        TRANSFER,
        TRANSFER_D_RAND,
        BUGS_ONLY,
        LEAKAGE,
        LEAKAGE_D_DET,
        PERTURBATION_ON_NOISE,
        ROBUST_FEATURES,
        NON_ROBUST_FEATURES,
        MISLABELED,
        CROSS_DOMAIN,
        LABEL_NOISE,
        SHUFFLED,
        DISTILLATION,
        IMPORTED,
        TWO_DIMENSIONAL,
    )
}
