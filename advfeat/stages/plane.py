"""Stage ``two_dimensional``: learning from adversarial points of the unit square, and its picture."""

from pathlib import Path
from typing import Any

import numpy as np

from advfeat.artifact import ArtifactRef
from advfeat.report.plane import plane_figure
from advfeat.spec import TwoDimensionalSpec
from advfeat.stage import Stage
from advfeat.store import Store
from advfeat.two_dimensional import two_dimensional


def write_plane(stage: Stage, store: Store) -> ArtifactRef:
    """Write ``picture.svg``; the metrics are those of a data set and of an evaluation at once.

    Accuracy is the share of the plane on which old and new network agree.
    """

    def build(folder: Path) -> dict[str, Any]:
        found = two_dimensional(
            TwoDimensionalSpec.model_validate(stage.parameters["plane"]), stage.parameters["seed"]
        )
        (folder / "picture.svg").write_text(plane_figure(found))
        same = int(np.sum(found.source_classes == found.target_classes))
        return {
            "train_size": int(found.reached.sum()),
            "wrong_label_share": 1.0,
            "attack_success": found.adversarial_success,
            "mean_perturbation_norm": None,
            "test_accuracy": found.agreement,
            "right": same,
            "test_size": found.source_classes.size,
            "chance": 0.5,
            "control_accuracy": found.control_agreement,
        }

    return store.write_stage(stage, build)
