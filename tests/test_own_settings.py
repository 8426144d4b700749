"""Settings of one recipe alone: what they change, what they leave, and which are refused."""

import json
import re
import shlex
from pathlib import Path

import pytest

from advfeat.errors import InputError
from advfeat.planning import (
    Experiment,
    Plan,
    RecipeName,
    build_plan,
    load_experiment,
    load_grid,
    load_reproduction,
    points,
)
from advfeat.recipes import bugs_only, leakage
from advfeat.report.comparison import compare
from advfeat.storage import Store
from tests.command import QUICK_ASSIGNMENTS
from tests.inline import compute_all

THREE = "recipes=[clean, d_det, mislabeled]"
OWN = (
    "only.d_det.attack={eps: 0.75, steps: 5}",
    "only.d_det.source.epochs=2",
    "only.mislabeled.target.epochs=3",
)


def plan(*assignments: str) -> Plan:
    return build_plan(load_experiment("digits", ["seeds=[0]", *assignments]))


def digests(a_plan: Plan, recipe: str) -> dict[str, str]:
    """Return what a recipe is made of: digests by role."""
    prefix = f"{recipe}/"
    inputs = a_plan.report.inputs
    return {name: inputs[name] for name in inputs if name.startswith(prefix)}


def test_a_recipe_is_what_it_is_alone_with_these_settings_and_the_others_are_as_before() -> None:
    together, before = plan(THREE, *OWN), plan("recipes=[clean, mislabeled]")
    assert digests(together, "clean") == digests(before, "clean"), "d_det has a source of its own"
    d_det = plan("recipes=[d_det]", "attack.eps=0.75", "attack.steps=5", "source.epochs=2")
    assert digests(together, "d_det") == digests(d_det, "d_det")
    mislabeled = plan("recipes=[mislabeled]", "target.epochs=3")
    assert digests(together, "mislabeled") == digests(mislabeled, "mislabeled")


def test_stages_that_differ_have_titles_that_differ() -> None:
    guarded = "recipes=[d_det, bugs_only, transfer]"
    titles = [stage.title for stage in plan(guarded, "only.bugs_only.source.epochs=2", "guards=2").stages]
    assert len(set(titles)) == len(titles)
    assert "source model of bugs_only, seed 0" in titles


def test_fields_that_are_not_given_are_those_of_all() -> None:
    experiment = load_experiment("digits", [THREE, *OWN, "target.width=8"])
    assert experiment.of("mislabeled").target == experiment.target.model_copy(update={"epochs": 3})
    assert experiment.of("mislabeled").attack == experiment.attack
    assert experiment.of("clean") == load_experiment("digits", ["recipes=[clean]", "target.width=8"])


def test_null_takes_away_what_all_have() -> None:
    robust = "target.adversarial={eps: 0.5, steps: 3}"
    experiment = load_experiment("digits", [THREE, robust, "only.clean.target.adversarial=null"])
    assert experiment.of("clean").target.adversarial is None
    assert experiment.of("d_det").target.adversarial is not None


def test_a_recipe_may_have_what_it_needs_for_itself() -> None:
    robust = "{model: cnn, adversarial: {eps: 1, steps: 2}}"
    given = ("robust_source=null", "recipes=[clean, robust_features]")
    assert plan(*given, f"only.robust_features.robust_source={robust}").stages
    with pytest.raises(InputError, match="needs a robust_source"):
        plan(*given)


def test_without_them_nothing_says_so() -> None:
    """So that digests of reports made before stay what they are."""
    assert "only" not in plan(THREE).report.parameters["experiment"]
    assert "only" in plan(THREE, *OWN).report.parameters["experiment"]
    assert plan(THREE, "only={}").report.digest == plan(THREE).report.digest


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("only.mislabeled.target.epochs=0", "only.mislabeled.target.epochs: 0 is less than 1; expected"),
        ("only.mislabeled.target.epoch=5", "only.mislabeled.target.epoch: 5 is given to a field"),
        ("only.mislabeled.targt={epochs: 5}", "does not exist; did you mean target? the fields there are"),
        ("only.mislabeld.target.epochs=5", "only.mislabeld: 'mislabeld' is unknown; did you mean"),
        ("only.bugs_only.guards=10", "only.bugs_only: {'guards': 10} is for a recipe that is not run"),
        ("only.mislabeled.seeds=[0]", "only.mislabeled.seeds: [0] is one for all recipes; a recipe may have"),
        ("only.mislabeled.data.train_size=9", "is one for all recipes"),
        ("only.mislabeled.only={}", "only.mislabeled.only: {} is one for all recipes"),
        ("only.mislabeled=5", "only.mislabeled: 5 holds no fields"),
        ("only=5", "only: 5 holds no fields"),
        ("only.mislabeled.target=cnn", "only.mislabeled.target: 'cnn' holds no fields"),
        ("only.d_det.attack.norm=l0", "only.d_det.attack.eps: 1.5 is not a whole number of values"),
        ("only.d_det.attack.norm=l3", "only.d_det.attack.norm: 'l3' is unknown"),
        ("only.clean.target.model=vgg16_bn", "only.clean.target.model: 'vgg16_bn' needs images of 17 pixels"),
        ("only.d_det.permutation=[1,0]", "only.d_det.permutation: [1, 0] names 2 classes"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(assignment: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        plan(THREE, assignment)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_recipes_and_own_settings_say_together_is_looked_at() -> None:
    robust = "only.cross_domain.target.adversarial={eps: 1, steps: 1}"
    with pytest.raises(InputError, match=r"only\.cross_domain: .* normalized images leave \[0, 1\]"):
        load_experiment("digits", ["recipes=[clean, cross_domain]", robust])
    with pytest.raises(InputError) as refused:
        load_experiment("digits", ["recipes=[clean, imported]", "only.imported.target.epochs=3"])
    asked = "only.imported: 'imported' needs the field imported, a finished data set, for imported"
    assert str(refused.value).startswith(asked)


def test_data_sets_that_recipes_share_are_told_apart_by_whose_settings_they_have() -> None:
    titles = [
        stage.title for stage in plan("recipes=[d_det, transfer]", "only.transfer.attack.eps=1.0").stages
    ]
    assert len(set(titles)) == len(titles)
    assert "data set d_det of transfer, seed 0" in titles


def test_a_grid_of_one_recipe_has_no_use_for_them() -> None:
    with pytest.raises(InputError, match=r"only: .* is for experiments of several recipes"):
        points("d_det", load_grid("d_det", ["only.d_det.target.epochs=5"]))


def test_a_file_can_be_run_in_part(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("recipes: [clean, d_det]\nonly: {d_det: {guards: 2}, clean: {target: {epochs: 5}}}\n")
    assert load_experiment(str(file), ["recipes=[clean]"]).only == {"clean": {"target": {"epochs": 5}}}
    with pytest.raises(InputError, match=r"only\.d_det: .* is for a recipe that is not run"):
        load_experiment(str(file), ["only.d_det.guards=3", "recipes=[clean]"])


def ball(experiment: Experiment) -> tuple[str, float, int, float]:
    """Return norm, eps, steps and step length of the attack."""
    attack = experiment.attack
    return attack.norm, attack.eps, attack.steps, attack.step_length


def test_papers_have_their_own_settings() -> None:
    """Ilyas et al., Nakkiran, Wallace and Kumano et al., as the recipes' pages tell them."""
    papers = load_reproduction("cifar10-paper")
    networks = {name: (papers.of(name).source.model, papers.of(name).target.model) for name in papers.recipes}
    assert networks.pop("bugs_only") == ("resnet18", "resnet18")
    assert networks.pop("mislabeled")[1] == "resnet18"
    assert networks.pop("perturbation_on_noise") == ("wide_resnet28_10", "wide_resnet28_10")
    assert set(networks.values()) == {("resnet50", "resnet50")}
    plain = {name for name in papers.recipes if papers.of(name).target.augmentation == "none"}
    assert plain == {"d_det", "transfer"}
    bugs = papers.of("bugs_only")
    assert ball(bugs) == ("l2", 2.5, 10, 0.5)
    assert bugs.own(bugs_only.Settings).guards == 10
    mislabeled = papers.of("mislabeled")
    assert (mislabeled.weak_source.model, mislabeled.weak_source.epochs) == ("resnet18", 2)
    assert mislabeled.target.epochs == 50
    same: tuple[RecipeName, ...] = ("d_rand", "d_det", "transfer", "leakage", "perturbation_on_noise")
    for name in same:
        assert ball(papers.of(name)) == ("l2", 0.5, 100, 0.1)
    assert papers.own(leakage.Settings).leakage_eps == 0.25


def augmentations(source: str, *assignments: str) -> dict[str, str]:
    """Return the augmentation that each recipe's target model is trained with."""
    experiment = load_experiment(source, assignments)
    return {recipe: experiment.of(recipe).target.augmentation for recipe in experiment.recipes}


def test_a_preset_has_settings_of_single_recipes_for_those_that_are_run() -> None:
    assert augmentations("cifar10") == dict.fromkeys(
        ("clean", "d_rand", "mislabeled", "shuffled"), "flip-crop"
    ) | {"d_det": "none"}
    some = augmentations("cifar10", "recipes=[d_rand, transfer, bugs_only]")
    assert some == {"d_rand": "flip-crop", "transfer": "none", "bugs_only": "none"}
    assert load_experiment("cifar10", ["recipes=[clean]"]).only == {}


def test_what_a_user_sets_stands_above_what_a_preset_says_of_a_recipe(tmp_path: Path) -> None:
    assert augmentations("cifar10", "target.augmentation=flip-crop")["d_det"] == "flip-crop"
    assert augmentations("cifar10", "target={model: cnn, augmentation: flip-crop}")["d_det"] == "flip-crop"
    assert augmentations("cifar10", "target.epochs=3")["d_det"] == "none", "another field"
    assert augmentations("cifar10", "only={}")["d_det"] == "flip-crop"
    own = "only.d_det.target.epochs=3"
    assert load_experiment("cifar10", [own]).only == {
        "d_det": {"target": {"augmentation": "none", "epochs": 3}}
    }
    file = tmp_path / "mine.yaml"
    file.write_text("preset: cifar10\nrecipes: [d_det]\ntarget: {augmentation: flip-crop}\n")
    assert augmentations(str(file)) == {"d_det": "flip-crop"}
    file.write_text("preset: cifar10\nrecipes: [d_rand, d_det]\nonly: {d_rand: {target: {epochs: 3}}}\n")
    assert augmentations(str(file)) == {"d_rand": "flip-crop", "d_det": "none"}
    assert load_experiment(str(file), ["target.epochs=5"]).of("d_rand").target.epochs == 3, (
        "the user said both"
    )


def test_a_grid_has_what_the_preset_says_of_its_recipe() -> None:
    (point,) = points("d_det", load_grid("d_det", ["data=cifar10", "seeds=[0]", "target_epochs=3"]))
    assert (point.experiment.target.augmentation, point.experiment.target.epochs) == ("none", 3)
    assert point.experiment.only == {}
    alone = shlex.split(point.command)
    typed = load_experiment(alone[2], alone[4::2])
    assert typed.of("d_det") == point.experiment
    (other,) = points(
        "d_det", load_grid("d_det", ["data=cifar10", "seeds=[0]", "target.augmentation=flip-crop"])
    )
    assert other.experiment.target.augmentation == "flip-crop"
    (same_for_all,) = points(
        "d_det", load_grid("d_det", ["data=cifar10", "seeds=[0]", "settings=['only={}']"])
    )
    assert same_for_all.experiment == other.experiment


def test_the_papers_settings_are_a_preset_and_a_reproduction() -> None:
    papers, everything = load_experiment("cifar10-paper"), load_reproduction("cifar10-paper")
    assert set(papers.recipes) < set(everything.recipes)
    for recipe in papers.recipes:
        assert papers.of(recipe) == everything.of(recipe).model_copy(update={"name": papers.name})
    asked = load_experiment("cifar10-paper", [f"recipes=[{','.join(everything.recipes)}]"])
    assert asked == everything.model_copy(update={"name": papers.name})


def test_rows_page_and_comparison_tell_them(local_store: Store) -> None:
    given = [*QUICK_ASSIGNMENTS, "recipes=[clean, mislabeled, shuffled]"]
    own = ("only.mislabeled.target.model=mlp", "only.mislabeled.weak_source.model=mlp")
    with_own, without = (build_plan(load_experiment("digits", [*given, *more])) for more in (own, ()))
    for a_plan in (with_own, without):
        compute_all(a_plan, local_store)
    rows = json.loads(local_store.read(with_own.report.digest, "rows.json"))
    networks = {row["recipe"]: (row["source_model"], row["target_model"]) for row in rows}
    assert networks == {
        "clean": (None, "cnn"),
        "mislabeled": ("mlp", "mlp"),
        "shuffled": (None, "cnn"),
    }
    page = local_store.read(with_own.report.digest, "report.html").decode()
    assert re.search(r"only:\s+mislabeled:\s+target:\s+model: mlp", page)
    found = compare(local_store, without.report.digest, with_own.report.digest)
    assert {change.field: change.values[1] for change in found.changes} == {
        "target.model": ("cnn", "mlp"),
        "weak_source.model": ("cnn", "mlp"),
    }


def test_a_comparison_knows_what_is_the_same_in_other_words(local_store: Store) -> None:
    given = [*QUICK_ASSIGNMENTS, "recipes=[mislabeled]", "target.epochs=2"]
    other = ("target.epochs=1", "only.mislabeled.target.epochs=2")
    plans = [build_plan(load_experiment("digits", [*given, *more])) for more in ((), other)]
    for a_plan in plans:
        compute_all(a_plan, local_store)
    first, second = (a_plan.report.digest for a_plan in plans)
    assert first != second
    assert compare(local_store, first, second).changes == ()
