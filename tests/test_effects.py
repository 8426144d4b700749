"""Effects along one setting, on the digits, each against its control."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
import torch

from advfeat import data
from advfeat.datasets.stored_rows import stored_tables
from advfeat.evaluation import predict
from advfeat.files.tables import image_array, int_array
from advfeat.planning import RecipeName, build_grid_plan, build_plan, load_experiment, load_grid, points
from advfeat.report.intervals import mean_interval, wilson_interval
from advfeat.storage import Store
from advfeat.training import TrainingSet, fit
from tests.inline import compute, compute_all

pytestmark = pytest.mark.slow

CHANCE = 0.1
NARROW = ("source.width=16", "target.width=16")
"""Narrower than those of the preset, whose effects tests/test_recipes.py sees: half the work."""


@pytest.fixture(scope="module")
def store(shared_store: Store) -> Store:
    """One for all tests: they share the source models."""
    return shared_store


@pytest.mark.parametrize(
    "settings",
    [
        ("attack.norm=linf", "attack.eps=0.3"),
        ("attack.norm=l0", "attack.eps=16"),
        ("noise=gaussian",),
    ],
    ids=["linf", "l0", "gaussian"],
)
def test_perturbed_noise_teaches_and_under_permuted_labels_it_does_not(
    settings: tuple[str, ...], store: Store
) -> None:
    experiment = load_experiment(
        "digits", ["recipes=[perturbation_on_noise]", "seeds=[0]", *NARROW, *settings]
    )
    plan = build_plan(experiment)
    compute_all(plan, store)
    made_of = {name.rpartition("/")[2]: digest for name, digest in plan.report.inputs.items()}
    learned = store.manifest(made_of["evaluation"]).metrics

    noise = pa.concat_tables(stored_tables(store, made_of["dataset"]))
    images, labels = torch.from_numpy(image_array(noise, np.float32)), int_array(noise, "label")
    permuted = torch.from_numpy(np.random.default_rng(0).permutation(labels))
    control = fit(TrainingSet.in_memory(images, permuted), experiment.target, classes=10, seed=0)
    test = data.load(experiment.data).test
    right = int((predict(control, torch.from_numpy(test.images)) == test.labels).sum())
    assert wilson_interval(learned["right"], learned["test_size"])[0] > 3 * CHANCE
    assert wilson_interval(right, len(test.labels))[1] < 2.5 * CHANCE


@dataclass(frozen=True)
class Place:
    """Images used, and shares as fractions, at one value of an axis: of one seed, or means over seeds."""

    size: float
    source_accuracy: float
    accuracy: float
    attack_success: float
    transfer_rate: float


def along(axis: str, recipe: RecipeName, assignments: list[str], store: Store) -> dict[float, Place]:
    """Compute a grid; return what is found at each value of an axis, means over seeds."""
    return {
        value: Place(*np.mean([tuple(vars(place).values()) for place in members], axis=0).tolist())
        for value, members in seeds_along(axis, recipe, assignments, store).items()
    }


def seeds_along(
    axis: str, recipe: RecipeName, assignments: list[str], store: Store
) -> dict[float, list[Place]]:
    """Compute a grid; return what each seed has at each value of an axis."""
    places = points(recipe, load_grid(recipe, assignments))
    plan = build_grid_plan(places)
    for stage in plan.stages:
        compute(stage, store)
    found: dict[float, list[Place]] = {}
    for point, roles in zip(places, plan.made_of, strict=True):
        dataset, source, evaluation = (
            store.manifest(roles[role]).metrics for role in ("dataset", "source_model", "evaluation")
        )
        place = Place(
            dataset["train_size"],
            source["test_accuracy"],
            evaluation["test_accuracy"],
            dataset["attack_success"] if recipe == "transfer" else np.nan,
            evaluation["transfer_rate"] if recipe == "transfer" else np.nan,
        )
        found.setdefault(float(point.axes[axis]), []).append(place)
    return found


@pytest.mark.parametrize("recipe", ["d_det", "most_confused"])
def test_the_same_images_under_the_same_labels_teach_nothing_unperturbed(
    recipe: RecipeName, store: Store
) -> None:
    """The exact control: what is left at a vanishing eps are images and labels, which mislead."""
    found = seeds_along("eps", recipe, ["eps=[0.000001,1.5]", "seeds=[0,1,2]", *NARROW], store)
    unperturbed, perturbed = (
        mean_interval([place.accuracy for place in found[eps]]) for eps in (0.000001, 1.5)
    )
    assert unperturbed[1] < CHANCE
    assert perturbed[0] > unperturbed[1] + 0.3


def test_a_source_of_more_epochs_errs_less_and_its_errors_teach_less(store: Store) -> None:
    """On the digits few errors are left to learn from: 370, 236 and 41 of 1,258 images."""
    found = along("source_epochs", "mislabeled", ["source_epochs=[1,2,4]", "seeds=[0,1,2]"], store)
    first, second, third = (found[epochs] for epochs in (1, 2, 4))
    assert first.size > second.size > third.size
    assert first.source_accuracy < second.source_accuracy < third.source_accuracy
    assert first.accuracy > 2 * CHANCE
    assert first.accuracy > third.accuracy + 0.1


def test_more_of_what_fools_a_slightly_robust_source_fools_another_network(store: Store) -> None:
    """Fewer of its examples fool the source itself, at an eps that is small for the digits."""
    given = ["source_eps=[0,0.5]", "seeds=[0]", "target_model=[mlp]", "eps=[1.0]", "source.epochs=6"]
    found = along("source_eps", "transfer", given, store)
    standard, robust = found[0], found[0.5]
    assert robust.source_accuracy > standard.source_accuracy - 0.03
    assert robust.attack_success < standard.attack_success
    share = {place: place.transfer_rate / place.attack_success for place in (standard, robust)}
    assert share[robust] > share[standard] + 0.1
