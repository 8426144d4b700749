"""Rows: the published figure that stands in them, their settings, controls and radii."""

from typing import Any

import pytest

from advfeat.errors import InputError
from advfeat.planning import Experiment, Plan, RecipeName, build_plan, load_experiment, load_reproduction
from advfeat.recipes import RECIPES
from advfeat.report.controls import control, with_controls
from advfeat.report.groups import Group
from advfeat.report.markdown import markdown_report
from advfeat.report.published import otherwise, published_label, published_note
from advfeat.report.rows import Row, recipe_row
from advfeat.report.verdicts import verdict_line
from advfeat.spec import UntargetedAttack
from advfeat.stages.evaluation import _in_parts


def experiment(preset: str = "digits", **fields: Any) -> Experiment:
    assignments = [f"{name.replace('__', '.')}={value}" for name, value in fields.items()]
    return load_experiment(preset, assignments)


def row(recipe: RecipeName, of: Experiment, right: int = 50, **measured: Any) -> Row:
    """Make the row of a recipe whose target models have ``right`` of 100 test images right."""
    evaluation = {"test_accuracy": right / 100, "right": right, "test_size": 100, "chance": 0.1, **measured}
    dataset = {"train_size": 1258, "wrong_label_share": 1.0, "attack_success": 0.9}
    return recipe_row(RECIPES[recipe], of, [dataset] * 2, [evaluation] * 2, [])


@pytest.mark.parametrize(
    ("recipe", "preset", "fields", "figure"),
    [
        ("cross_domain", "mnist", {"cross_domain__normalized": True}, 0.945),
        ("cross_domain", "mnist", {"cross_domain__normalized": False}, 0.9104),
        ("cross_domain", "digits", {"cross_domain__normalized": False}, 0.9104),
        ("d_rand", "cifar10", {}, 0.633),
        ("d_rand", "digits", {"attack__norm": "linf", "attack__eps": 0.3, "data__train_size": 100}, 0.633),
        ("d_rand", "cifar10", {"data__source": "restricted-imagenet:/nowhere"}, 0.879),
        ("d_det", "cifar10", {"data__source": "restricted-imagenet:/nowhere"}, 0.644),
        ("bugs_only", "cifar10", {"attack__eps": 2.5}, 0.028),
        ("bugs_only", "cifar10", {"attack__norm": "linf", "attack__eps": 0.0314}, 0.025),
        ("shuffled", "cifar10", {}, None),
        ("transfer", "cifar10", {}, None),
        ("leakage", "cifar10", {}, 0.235),
    ],
)
def test_the_published_figure_is_that_of_the_nearest_setting(
    recipe: RecipeName, preset: str, fields: dict[str, Any], figure: float | None
) -> None:
    found = RECIPES[recipe].published_for(experiment(preset, **fields))
    assert (found and found.test_accuracy) == figure


def test_every_published_setting_names_fields_that_there_are() -> None:
    for recipe in RECIPES.values():
        for figure in (recipe.published, *recipe.also_published):
            if figure is not None:
                assert "data.source" in figure.differs(experiment()), recipe.name
                assert len(figure.settings) > 1, recipe.name


@pytest.mark.parametrize(
    ("recipe", "of", "told"),
    [
        ("d_rand", experiment(), "here: other data, net, eps, steps"),
        ("d_rand", experiment("cifar10"), "here: other net"),
        ("d_rand", load_reproduction("cifar10-paper"), "here: as published, as far as that is known"),
        ("mislabeled", experiment("cifar10"), "here: as published, as far as that is known"),
        ("mislabeled", experiment("cifar10", data__train_size=1000), "here: other data"),
        ("cross_domain", experiment("mnist"), "here: as published, as far as that is known"),
        ("cross_domain", experiment("mnist", other_data__source="digits"), "here: other data"),
        ("bugs_only", experiment("cifar10"), "here: other steps, guards, eps"),
    ],
)
def test_a_row_says_in_what_its_setting_is_not_the_published_one(
    recipe: RecipeName, of: Experiment, told: str
) -> None:
    assert otherwise(row(recipe, of)) == told


def test_the_note_on_published_figures_says_what_is_true_of_each_row() -> None:
    digits = [row(recipe, experiment()) for recipe in ("clean", "d_rand", "mislabeled", "shuffled")]
    assert published_note(digits) == "Data set and net of the published figures differ from this run's."
    assert published_label(digits) == "published (other data and net)"
    mixed = [*digits, row("leakage", experiment()), row("mislabeled", experiment("cifar10"))]
    assert published_note(mixed) == (
        "In what the published figures differ from this run: data set and net: clean, d_rand, mislabeled; "
        "data set: leakage; neither, as far as they are known: mislabeled."
    )
    assert published_label(mixed) == "published"
    assert published_note(digits[-1:]) == "No figures were published for these."


@pytest.mark.parametrize(
    ("recipe", "of", "line"),
    [
        (
            "d_det",
            experiment(attack__restarts=2),
            "digits (1,258 images, tested on 100), cnn (12 epochs) → cnn (12 epochs), L2 1.5, 20 steps, "
            "2 restarts",
        ),
        ("shuffled", experiment(), "digits (1,258 images, tested on 100), cnn (12 epochs)"),
        (
            "robust_features",
            experiment(),
            "digits (1,258 images, tested on 100), cnn (16 epochs, against L2 1) → cnn (12 epochs), "
            "rebuilt in 50 steps of 0.1",
        ),
        (
            "cross_domain",
            experiment(cross_domain__normalized=False),
            "photo-patches (1,258 images, tested on 100 of digits), cnn (12 epochs) → cnn (12 epochs), "
            "not normalized",
        ),
        (
            "perturbation_on_noise",
            experiment(noise="gaussian"),
            "gaussian noise (1,258 images, tested on 100 of digits), cnn (12 epochs) → cnn (12 epochs), "
            "L2 1.5, 20 steps",
        ),
        (
            "leakage",
            experiment(),
            "digits (1,258 images, tested on 100), cnn (12 epochs) → linear features robust at L2 0.75, "
            "L2 1.5, 20 steps",
        ),
        (
            "bugs_only",
            experiment(guards=3),
            "digits (1,258 images, tested on 100), cnn (12 epochs) → cnn (12 epochs), L2 1.5, 20 steps, "
            "3 guards",
        ),
        (
            "label_noise",
            experiment(label_noise=0.2),
            "digits (1,258 images, tested on 100), cnn (12 epochs), 20.0 % random labels",
        ),
        (
            "two_dimensional",
            experiment(),
            "8 planes of 32 points, networks of 2 x 128 units (400 epochs), L-infinity 0.12, 40 steps",
        ),
    ],
)
def test_a_row_tells_the_settings_that_matter_to_its_recipe(
    recipe: RecipeName, of: Experiment, line: str
) -> None:
    assert row(recipe, of).setting == line


def test_controls_are_taken_from_the_same_report() -> None:
    of = experiment()
    rows = with_controls(
        [row("d_rand", of, 90), row("shuffled", of, 11), row("d_det", of), row("two_dimensional", of)], of
    )
    assert [(each.control, each.control_accuracy) for each in rows] == [
        *(("shuffled", 0.11), ("clean", None), ("bugs_only", None), (None, None))
    ]
    plane = row("two_dimensional", of, control_accuracy=0.1, points_right=0.7)
    assert [control(each) for each in (*rows, *with_controls([plane], of))] == [
        *("11.0 % shuffled", "–", "–", "–", "10.0 % unperturbed")
    ]
    assert plane.points_right == 0.7


def test_a_control_that_was_made_in_another_way_is_none() -> None:
    of = experiment(
        recipes="[d_rand, d_det, bugs_only, shuffled]",
        only="{bugs_only: {attack: {eps: 2.5}}, shuffled: {target: {epochs: 3}}}",
    )
    rows = with_controls([row(recipe, of.of(recipe), 20) for recipe in of.recipes], of)
    found = {each.recipe: each.control_accuracy for each in rows}
    assert found == {"d_rand": 0.2, "d_det": None, "bugs_only": None, "shuffled": None}


def test_what_teaches_robustness_keeps_more_than_ordinary_training() -> None:
    of = experiment(evaluation="{attack: {eps: 0.5, steps: 20}}")

    def judged_beside(kept: float, robust_features: float = 0.7) -> tuple[str | None, str | None]:
        rows = [
            row("clean", of, 90, robust_accuracy=kept),
            row("robust_features", of, 90, robust_accuracy=robust_features),
            row("non_robust_features", of, 90, robust_accuracy=0.05),
        ]
        robust, fragile = with_controls(rows, of)[1:]
        assert robust.ordinary_robust_accuracy == kept
        assert f"above what clean keeps ({100 * kept:.1f} %)" in verdict_line(robust)
        assert "clean keeps" not in verdict_line(fragile)
        return robust.verdict, fragile.verdict

    assert judged_beside(0.5) == ("as claimed", "as claimed")
    assert judged_beside(0.4, 0.3) == ("contrary", "as claimed")
    assert judged_beside(0.75) == ("not tested", "as claimed")
    alone = with_controls([row("robust_features", of, 90, robust_accuracy=0.7)], of)
    assert alone[0].ordinary_robust_accuracy is None
    assert alone[0].verdict == "as claimed"


def test_the_share_of_permuted_classes_is_told() -> None:
    made = row("bugs_only", experiment(), 10, permuted_accuracy=0.708)
    assert "70.8 % of the test images get the permuted class" in verdict_line(made)


def test_what_teaches_is_held_against_what_does_not_and_the_other_way_round() -> None:
    for recipe in RECIPES.values():
        if recipe.control is None:
            assert recipe.learner == "network in the plane", "it computes its own"
        elif recipe.name != "distillation":  # held against the labels that it replaces
            assert RECIPES[recipe.control].claim.teaches is not recipe.claim.teaches


def test_differences_and_intervals_of_seeds_are_in_json_and_are_read_back() -> None:
    made = row("d_rand", experiment(), 50)
    content = made.model_dump_json()
    assert Row.model_validate_json(content) == made
    assert made.model_dump()["difference"] == pytest.approx(0.5 - 0.633)
    for interval in made.wilson_ci95:
        assert interval == pytest.approx((0.4038, 0.5962), abs=1e-4), "Wilson 1927, 50 of 100"
    assert len(made.wilson_ci95) == 2
    assert row("shuffled", experiment()).model_dump()["difference"] is None


def evaluations(plan: Plan) -> list[dict[str, Any]]:
    return [stage.parameters for stage in plan.stages if stage.kind == "evaluation"]


def test_robust_accuracy_at_several_radii_is_in_columns_of_their_own() -> None:
    of = experiment(evaluation="{attack: {eps: 0.25, steps: 20}, further_eps: [0.5, 1]}")
    under_autoattack: dict[str, Any] = {
        "autoattack_accuracy": 0.75,
        "further_autoattack_accuracies": [0.55, 0.2],
    }
    robust: dict[str, Any] = {
        "robust_accuracy": 0.8,
        "further_robust_accuracies": [0.6, 0.3],
        "calibration_error": 0.01,
    }
    made = row("clean", of, **robust)
    assert made.robust_accuracies == {"L2 0.25": 0.8, "L2 0.5": 0.6, "L2 1": pytest.approx(0.3)}
    assert made.robust_accuracy == 0.8
    measured = row("clean", of, **robust, **under_autoattack)
    (head, _, line) = markdown_report([measured]).splitlines()[6:9]
    balls = "L2 0.25", "L2 0.5", "L2 1"
    robust_heads, autoattack_heads = (
        " | ".join(f"{what} at {ball}" for ball in balls) for what in ("robust", "AutoAttack")
    )
    assert head.endswith(f"| {robust_heads} | {autoattack_heads} | transfer rate |")
    assert line.endswith("| 80.0 % | 60.0 % | 30.0 % | 75.0 % | 55.0 % | 20.0 % | – |")
    assert Group({}, (measured, measured)).autoattack_accuracy("L2 1") == pytest.approx(0.2)
    assert Group({}, (made,)).autoattack_accuracy("L2 1") is None
    assert "AutoAttack" not in markdown_report([made])
    stages = evaluations(build_plan(of))
    assert all(parameters["further_eps"] == [0.5, 1] for parameters in stages)


def test_steps_of_a_set_length_grow_with_the_radius() -> None:
    attack = UntargetedAttack(eps=0.25, steps=10, step_size=0.1)
    assert attack.at(0.25) == attack
    assert attack.at(0.5).step_length == pytest.approx(0.2)
    assert UntargetedAttack(eps=0.25, steps=10).at(0.5).step_length == pytest.approx(0.125)
    assert UntargetedAttack(norm="l0", eps=2, steps=3, step_size=0.4).at(5).step_length == 0.4


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ("{further_eps: [0.5]}", "need an attack"),
        ("{attack: {eps: 0.5, steps: 1}, further_eps: [0.5]}", "a radius twice"),
        ("{attack: {eps: 0.5, steps: 1}, further_eps: [1, 1]}", "a radius twice"),
        ("{attack: {eps: 2, steps: 1, norm: l0}, further_eps: [1.5]}", "whole numbers"),
        ("{attack: {eps: 2, steps: 1}, further_eps: [0]}", "greater than 0"),
    ],
)
def test_radii_that_cannot_be_are_refused_in_a_line(evaluation: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        experiment(evaluation=evaluation)
    assert "\n" not in str(refused.value)


def test_progress_goes_on_from_radius_to_radius() -> None:
    told: list[tuple[int, int]] = []
    for part in _in_parts(lambda done, of: told.append((done, of)), 2):
        assert part is not None
        part(5, 10)
        part(10, 10)
    assert told == [(5, 20), (10, 20), (15, 20), (20, 20)]
    assert _in_parts(None, 2) == [None, None]
