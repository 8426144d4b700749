"""Stage ``two_dimensional``: learning from adversarial points of the unit square, and its picture."""

from pathlib import Path
from typing import Any

import numpy as np

from advfeat.digest import derived_seed
from advfeat.methods.two_dimensional import TwoDimensional, two_dimensional
from advfeat.recipes.two_dimensional import TwoDimensionalSpec
from advfeat.report.intervals import mean_interval
from advfeat.report.plane import agreement_chart, plane_figure
from advfeat.storage import ArtifactRef, Stage, Store


def write_plane(stage: Stage, store: Store) -> ArtifactRef:
    """Write ``picture.svg`` and ``agreement.svg``; the metrics are of a data set and an evaluation at once.

    Accuracy is the share of the plane on which old and new network agree, over several planes.
    """

    def build(folder: Path) -> dict[str, Any]:
        spec = TwoDimensionalSpec.model_validate(stage.parameters["plane"])
        seeds = (derived_seed(stage.parameters["seed"], "plane", number) for number in range(spec.planes))
        setting = spec.model_dump(exclude={"planes"})
        found = [two_dimensional(seed, **setting) for seed in seeds]
        (folder / "picture.svg").write_text(plane_figure(_median(found)), encoding="utf-8")
        if len(found) > 1:
            (folder / "agreement.svg").write_text(agreement_chart(found), encoding="utf-8")
        agreements = [plane.agreement for plane in found]
        return {
            "train_size": round(float(np.mean([plane.reached.sum() for plane in found]))),
            "wrong_label_share": 1.0,
            "attack_success": float(np.mean([plane.adversarial_success for plane in found])),
            "mean_perturbation_norm": None,
            "test_accuracy": float(np.mean(agreements)),
            "ci95": mean_interval(agreements) if len(found) > 1 else (0.0, 1.0),
            "ci95_over": "planes",
            "chance": 0.5,
            "points_right": float(np.mean([plane.points_right for plane in found])),
            "control_accuracy": float(np.mean([plane.control_agreement for plane in found])),
        }

    return store.write_stage(stage, build)


def _median(planes: list[TwoDimensional]) -> TwoDimensional:
    """Return the plane whose agreement is in the middle: neither the best picture nor the worst."""
    return sorted(planes, key=lambda plane: plane.agreement)[len(planes) // 2]
