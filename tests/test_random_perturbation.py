"""Random perturbations: as long as an attack's, under the same labels, and they teach nothing."""

import json

import numpy as np
import pytest
import torch

from advfeat.attacks import BALLS
from advfeat.datasets.stored_rows import stored_tables
from advfeat.files.tables import image_array, int_array
from advfeat.planning import build_plan, load_experiment
from advfeat.report.intervals import wilson_interval
from advfeat.spec import Norm
from advfeat.stages.images import StoredImages
from advfeat.storage import Store
from tests.inline import compute_all

SHORT = ("source.epochs=6", "target.epochs=6", "attack.steps=10")


@pytest.mark.slow
def test_what_teaches_is_where_a_perturbation_points(local_store: Store) -> None:
    recipes = "recipes=[d_rand,random_perturbation]"
    plan = build_plan(load_experiment("digits", [*SHORT, recipes, "seeds=[0,1,2]"]))
    compute_all(plan, local_store)
    adversarial, noise = json.loads(local_store.read(plan.report.digest, "rows.json"))
    low, high = noise["ci95"]
    assert low <= noise["chance"] <= high
    assert noise["verdict"] == "as claimed"
    assert adversarial["ci95"][0] > noise["ci95"][1] + 0.3
    assert noise["control_accuracy"] == adversarial["test_accuracy"]
    assert adversarial["attack_success"] > 0.8
    _, most_by_chance = wilson_interval(round(0.1 * 3 * noise["train_size"]), 3 * noise["train_size"])
    assert noise["attack_success"] < most_by_chance + 0.01, "the source is fooled as rarely as chance has it"


@pytest.mark.parametrize(("norm", "eps"), [("l2", 1.5), ("linf", 0.2), ("l1", 6.0), ("l0", 7.0)])
def test_perturbations_are_as_long_as_the_ball_allows(norm: Norm, eps: float, local_store: Store) -> None:
    small = ["data.train_size=150", "data.test_size=50", "source.epochs=1", "target.epochs=1", "seeds=[0]"]
    attack = [f"attack.norm={norm}", f"attack.eps={eps}", "attack.steps=2"]
    plan = build_plan(load_experiment("digits", [*small, *attack, "recipes=[d_rand,random_perturbation]"]))
    compute_all(plan, local_store)
    labels, lengths = {}, {}
    images = StoredImages(local_store, plan.report.inputs["images"], "train")
    for recipe in ("d_rand", "random_perturbation"):
        (table,) = stored_tables(local_store, plan.report.inputs[f"{recipe}/0/dataset"])
        labels[recipe] = int_array(table, "label")
        moved = torch.from_numpy(image_array(table, np.float32))
        assert moved.min() >= 0
        assert moved.max() <= 1
        real = torch.from_numpy(images.pixels(int_array(table, "index"))).float() / 255
        lengths[recipe] = BALLS[norm].length(moved.double() - real.double())
    assert (labels["d_rand"] == labels["random_perturbation"]).all()
    reached = lengths["random_perturbation"]
    assert (reached <= eps * (1 + 1e-6)).all()
    assert (reached > 0.98 * eps).all()
    assert reached.mean() >= lengths["d_rand"].mean() - 0.02 * eps
