"""Whether a target model repeats its source model, errors included.

A target that learned features of the data is right where its source is right. One that learned the
source itself, as in distillation, is also wrong where the source is wrong, and in the same way. So the
source's errors tell the two apart (Wallace 2019 and the answer of Ilyas et al., distill.pub,
"A Discussion of 'Adversarial Examples Are Not Bugs, They Are Features'").
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Agreement:
    """Shares of test images on which target and source predict the same class, and what chance gives.

    ``overall`` is over all images, ``on_errors`` over the ``errors`` images that the source gets wrong;
    without any, the latter two shares are ``None``.
    """

    overall: float
    overall_by_chance: float
    errors: int
    on_errors: float | None
    on_errors_by_chance: float | None


def agreement(
    source: NDArray[np.int64], target: NDArray[np.int64], labels: NDArray[np.int64], classes: int
) -> Agreement:
    """Compare the predictions (N,) of a target and its source model for N >= 1 images of ``labels`` (N,).

    Chance is what the two accuracies alone would give. ``overall_by_chance`` is
    p_s p_t + (1 - p_s)(1 - p_t) / (classes - 1) with the accuracies over all images: it assumes that
    whether the target is right does not depend on whether the source is, and that where both are wrong
    their classes are independent and one of them uniform over the wrong ones.
    ``on_errors_by_chance`` is (1 - p_t) / (classes - 1) with the target's accuracy on the source's
    errors, where agreeing means to choose the same wrong class: it assumes only that a target that is
    wrong there chooses uniformly.

    More agreement than by chance is evidence that the target learned the source's errors, and no proof:
    images that are hard for every network raise the first measure, classes that every network confuses
    raise both. A network that never saw the source shows by how much.
    """
    wrong_classes = max(1, classes - 1)
    same, source_wrong = source == target, source != labels
    p_source, p_target = float(np.mean(~source_wrong)), float(np.mean(target == labels))
    errors = int(source_wrong.sum())
    return Agreement(
        overall=float(np.mean(same)),
        overall_by_chance=p_source * p_target + (1 - p_source) * (1 - p_target) / wrong_classes,
        errors=errors,
        on_errors=float(np.mean(same[source_wrong])) if errors else None,
        on_errors_by_chance=(
            float(np.mean((target != labels)[source_wrong])) / wrong_classes if errors else None
        ),
    )
