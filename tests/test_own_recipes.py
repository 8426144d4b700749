"""Recipes of the user's own: read, tried by the plan, named by content, and then used as ours."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from runpy import run_path

import pytest
from ray import cloudpickle

from advfeat.catalogue.descriptions import chosen, described
from advfeat.datasets.card import card_of
from advfeat.errors import InputError
from advfeat.export import export
from advfeat.extensions import functions
from advfeat.flows.command_line.cli import app
from advfeat.flows.recipes import FLOWS
from advfeat.planning import (
    Point,
    build_grid_plan,
    build_plan,
    grid_report,
    load_experiment,
    load_grid,
    points,
    title_of,
)
from advfeat.planning.forms import GRIDS
from advfeat.recipes import RECIPES, recipe_named
from advfeat.report.comparison import compare
from advfeat.report.rows import read_rows
from advfeat.stages.images import StoredImages
from advfeat.storage import Store
from tests.command import Command
from tests.inline import compute, compute_all
from tests.own_recipes import BRIGHTER, LABELS, MADE, MIRRORED, changed, data_set, plan, written


@pytest.fixture(autouse=True)
def _unprovided() -> Iterator[None]:
    """Each test begins as a process that knows no code of the user's."""
    functions._PROVIDED.clear()
    yield
    functions._PROVIDED.clear()


@pytest.fixture
def mirrored(tmp_path: Path) -> Path:
    return written(tmp_path / "mirrored.py", MIRRORED)


def test_a_starting_file_passes_its_test_and_is_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with chdir(tmp_path):
        app(["new", "recipe", "nudged"], standalone_mode=False)
        assert "pytest test_nudged.py" in capsys.readouterr().out
        assert len(Path("nudged.py").read_text().splitlines()) <= 40
        for again, told in (
            ("nudged", "would overwrite nudged.py"),
            ("d_det", "is a recipe of advfeat"),
            ("random", "is a module of Python"),
        ):
            with pytest.raises(InputError, match=told):
                app(["new", "recipe", again], standalone_mode=False)
        with pytest.raises(InputError, match="is not a recipe's name"):
            app(["new", "recipe", "No-Name"], standalone_mode=False)
        sys.path.insert(0, str(tmp_path))
        try:
            tests = run_path("test_nudged.py")
        finally:
            sys.path.remove(str(tmp_path))
        tests["test_labels"]()
        tests["test_what_it_teaches"](tmp_path / "store")


def test_what_it_prints_is_no_part_of_a_result(tmp_path: Path) -> None:
    text = changed("    moved =", "    print('AGAIN')\n    moved =") + "\nprint('READ')\n"
    written(tmp_path / "mirrored.py", text)
    told = Command(tmp_path)("plan", "--json", "--set", "recipes=[mirrored.py]", "--set", "seeds=[0]")
    assert json.loads(told.stdout)[-1]["stage"] == "report"
    assert "READ" in told.stderr
    assert "AGAIN" in told.stderr


def test_what_it_is_called_is_its_content_wherever_it_lies(mirrored: Path, tmp_path: Path) -> None:
    here = data_set(plan("clean", mirrored))
    assert here.parameters["recipe"].startswith("mirrored.py@")
    assert here.parameters["share"] == 1.0
    elsewhere = written(tmp_path / "elsewhere/mirrored.py", MIRRORED)
    assert data_set(plan(elsewhere)).digest == here.digest
    with chdir(tmp_path):
        assert data_set(plan(here.parameters["recipe"])).digest == here.digest
        settings = ("only={mirrored.py: {target: {epochs: 2}, share: 0.5}}", "note=of: no number #1")
        assert data_set(plan("mirrored.py", settings=settings)).parameters["share"] == 0.5
    assert data_set(plan(mirrored, settings=("share=0.25",))).digest != here.digest
    other = written(tmp_path / "other/mirrored.py", MIRRORED + "\n# another file\n")
    assert data_set(plan(other)).digest != here.digest
    functions._PROVIDED.clear()
    with chdir(other.parent), pytest.raises(InputError, match="has other content now"):
        plan(here.parameters["recipe"])


def test_what_it_imports_from_beside_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path / "labels_of_mine.py", "SHIFT = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    plan(written(tmp_path / "mirrored.py", "from labels_of_mine import SHIFT\n" + MIRRORED))
    (told,) = caplog.messages
    assert "imports labels_of_mine, which is not installed" in told


def test_recipes_that_are_ours_do_not_change(mirrored: Path) -> None:
    alone, beside = plan("clean", "d_rand"), plan("clean", "d_rand", mirrored)
    assert {stage.digest for stage in alone.stages[:-1]} < {stage.digest for stage in beside.stages}
    assert load_experiment("digits", ["recipes=[clean]"]).recipes == ("clean",)
    with pytest.raises(InputError, match=r"share: 0\.5 is given to a field that does not exist"):
        plan("clean", settings=("share=0.5",))


def test_two_with_settings_of_their_own_stand_in_one_run(mirrored: Path, tmp_path: Path) -> None:
    text = changed("mirrored", "tilted").replace("share", "tilt").replace("note: str", "remark: str")
    tilted = written(tmp_path / "tilted.py", text)
    made = plan(mirrored, tilted, settings=("share=0.25", "only={tilted: {tilt: 0.75}}"))
    assert data_set(made).parameters["share"] == 0.25
    assert data_set(made, "tilted").parameters["tilt"] == 0.75
    assert "tilt" not in data_set(made).parameters
    assert data_set(plan(mirrored, settings=("share=0.25",))).digest == data_set(made).digest


def test_its_rows_stand_beside_its_control_and_need_no_file(
    mirrored: Path, tmp_path: Path, local_store: Store
) -> None:
    brighter = written(tmp_path / "brighter.py", BRIGHTER)
    made = plan("clean", mirrored, brighter, settings=("share=0.9",))
    mirrored.unlink()
    brighter.unlink()
    compute_all(made, local_store)
    clean, of_mirrored, of_brighter = read_rows(local_store, made.report.digest)
    assert (of_mirrored.recipe, of_mirrored.control_accuracy) == ("mirrored", clean.test_accuracy)
    assert of_mirrored.wrong_label_share is not None
    assert 0.7 < of_mirrored.wrong_label_share < 1
    assert "90 % mirrored" in (of_mirrored.setting or "")
    assert of_brighter.attack_success is not None
    page = local_store.read(made.report.digest, "report.html").decode()
    assert "mirrored.py@" in page
    assert ">mirrored<" in page

    functions._PROVIDED.clear()
    found = described(local_store)
    assert {entry.recipe for entry in chosen(found, "dataset", None)} == {"clean", "mirrored", "brighter"}
    assert len(chosen(found, "dataset", "mirrored")) == 1
    card = card_of(local_store, data_set(made).digest)
    assert (card.summary, card.title) == ("images under the mirrored class", "mirrored of digits, seed 0")
    assert "share=0.9" in card.command
    assert f"recipes=[{card.recipe}]" in card.command
    of_attack = card_of(local_store, data_set(made, "brighter").digest)
    assert "weak_source.epochs=2" in of_attack.command
    export(local_store, of_attack.digest, "parquet", str(tmp_path / "out"))
    written(tmp_path / "mirrored.py", MIRRORED)
    words = shlex.split(card.command)
    with chdir(tmp_path):
        again = build_plan(load_experiment(words[2], words[4::2]))
    assert data_set(again).digest == data_set(made).digest


def test_a_grid_of_it_has_its_axis_and_travels_to_other_processes(
    mirrored: Path, tmp_path: Path, local_store: Store
) -> None:
    name = recipe_named(str(mirrored)).identity
    with pytest.raises(InputError, match=r"share: 1.5 is more than 1"):
        load_grid(name, ["share=[1.5]"])
    grid = load_grid(name, ["share=[0.5,1]", "seeds=[0]", "data.train_size=64", "target.epochs=1"])
    wanted = points(name, grid)
    assert name not in list(GRIDS), "what is offered to all are forms of what is installed"
    assert title_of(name, grid) == "mirrored · digits · share 0.5, 1.0 · 1 seed"
    assert [point.experiment.share for point in wanted] == [0.5, 1.0]  # type: ignore[attr-defined]
    made = build_grid_plan(wanted)
    images, labelled = made.stages[0], made.stages[1]
    compute(images, local_store)

    sent = tmp_path / "sent"
    sent.write_bytes(cloudpickle.dumps((FLOWS[name], labelled.model_dump(mode="json"))))
    mirrored.unlink()
    program = (
        "import sys; from ray import cloudpickle; from advfeat.stages.inline import compute;"
        "from advfeat.storage import Stage, Store;"
        "flow, stage = cloudpickle.loads(open(sys.argv[1], 'rb').read());"
        "flow.validate_parameters({'grid': {'share': [0.5]}, 'store': 'x'});"
        "compute(Stage.model_validate(stage), Store(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", program, sent, local_store.uri], check=True, cwd=tmp_path)
    assert local_store.manifest(labelled.digest).parameters["recipe"] == name


def test_runs_are_compared_where_the_file_lies_as_it_was(
    mirrored: Path, tmp_path: Path, local_store: Store
) -> None:
    name = recipe_named(str(mirrored)).identity
    grid = load_grid(name, ["share=[0.5,1]", "seeds=[0]", "data.train_size=64", "target.epochs=1"])
    wanted = points(name, grid)
    of_grid = build_grid_plan(wanted)
    report = grid_report(title_of(name, grid), wanted, of_grid.made_of)
    of_run = plan("clean", mirrored)
    for stage in (*of_grid.stages, report, *of_run.stages):
        compute(stage, local_store)
    found = compare(local_store, of_run.report.digest, report.digest)
    assert {line.place["share"] for line in found.places} >= {"none", 0.5, 1.0}
    functions._PROVIDED.clear()
    with (
        chdir(tmp_path.parent),
        pytest.raises(InputError, match=r"without its recipe .*, as it was"),
    ):
        compare(local_store, of_run.report.digest, report.digest)
    described = wanted[0].model_dump()
    elsewhere = {**described, "assignments": [f"recipes=[{mirrored}]"]}
    with pytest.raises(InputError, match="names a file without its content"):
        _ = Point.model_validate(elsewhere).experiment
    with pytest.raises(InputError, match="is not a preset"):
        _ = Point.model_validate({**described, "preset": "mine.yaml"}).experiment


INSTALLED = """
import json
from advfeat.flows.deployments import _where_recipes_are, grids
from advfeat.flows.recipes import FLOWS
from advfeat.planning import build_plan, load_experiment
from advfeat.planning.forms import GRIDS
from advfeat.recipes import BUILT_IN, RECIPES
from website.recipes import table_of_recipes
plan = build_plan(load_experiment("digits", ["recipes=[mirrored, brighter]", "seeds=[0]", "share=0.5"]))
print(json.dumps({
    "further": [name for name in RECIPES if name not in BUILT_IN],
    "flows": [name for name in FLOWS if name not in BUILT_IN],
    "axes": sorted(set(GRIDS["mirrored"].model_fields) - set(GRIDS["clean"].model_fields)),
    "forms": {each.flow_name: list(each._parameter_openapi_schema.definitions["MirroredGrid"]["properties"])
              for each in grids("here", "store") if each.flow_name == "mirrored"},
    "variables": _where_recipes_are(),
    "table": "| `mirrored` |" in table_of_recipes(),
    "identities": sorted(s.parameters["recipe"] for s in plan.stages if s.kind == "dataset"),
}))
"""


def test_installed_ones_are_known_by_name_and_broken_ones_are_told(tmp_path: Path) -> None:
    entries = (
        "mirrored = my_lab.mirrored\nbroken = my_lab.broken\nclean = my_lab.mirrored\ngone = my_lab.gone"
    )
    written(tmp_path / "my_lab/__init__.py", "")
    written(tmp_path / "my_lab/mirrored.py", MIRRORED)
    written(tmp_path / "my_lab/broken.py", "1 / 0\n")
    written(tmp_path / "my_lab-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n")
    written(tmp_path / "my_lab-1.0.dist-info/entry_points.txt", f"[advfeat.recipes]\n{entries}\n")
    by_file = written(tmp_path / "files/brighter.py", BRIGHTER)
    clashing = [
        written(
            tmp_path / "files/twin.py",
            changed("default=1", "default=0", MIRRORED.replace('"mirrored"', '"twin"')),
        ),
        written(
            tmp_path / "files/noisy.py",
            MIRRORED.replace('"mirrored"', '"noisy"').replace("note", "label_noise"),
        ),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parent.parent)]),
        "ADVFEAT_RECIPES": os.pathsep.join([str(by_file), *map(str, clashing), "nowhere.py"]),
    }
    done = subprocess.run(
        [sys.executable, "-c", INSTALLED], env=environment, check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    assert found["further"] == found["flows"] == ["mirrored", "brighter"]
    assert found["axes"] == ["share"]
    assert "share" in found["forms"]["mirrored"]
    assert found["variables"]["env"]["ADVFEAT_RECIPES"].startswith(str(by_file.resolve()))
    assert found["table"]
    one, other = found["identities"]
    assert one.startswith("brighter.py@")
    assert other.startswith("mirrored@")
    for told in (
        "broken",
        "my_lab.gone",
        "'nowhere.py' cannot be read",
        "calls its recipe 'mirrored'",
        "recipe 'twin' is left out: it has a setting share, which is another one of my_lab.mirrored",
        "recipe 'noisy' is left out: it has a setting label_noise, which is another one of advfeat.recipes",
    ):
        assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_setting_that_is_set_to_nothing_is_that_in_the_stage(tmp_path: Path) -> None:
    text = changed("note: str", "note: str | None")
    note = data_set(plan(written(tmp_path / "mirrored.py", text), settings=("note=null",))).parameters["note"]
    assert note is None


def test_labels_and_images_that_are_changed_in_place_are_told_as_they_were(
    tmp_path: Path, local_store: Store
) -> None:
    relabel = "    given.labels[:] = (given.labels + 1) % given.classes\n    return given.labels\n"
    in_place = changed(f"    return {LABELS}\n", relabel)
    brighter = changed(MADE, "making.originals.mul_(0.99)", BRIGHTER)
    files = written(tmp_path / "mirrored.py", in_place), written(tmp_path / "brighter.py", brighter)
    made = plan("clean", *files)
    compute_all(made, local_store)
    of_clean, of_mirrored, of_brighter = (
        local_store.manifest(data_set(made, name).digest).metrics
        for name in ("clean", "mirrored", "brighter")
    )
    assert (of_clean["wrong_label_share"], of_mirrored["wrong_label_share"]) == (0, 1)
    assert of_brighter["wrong_label_share"] == 0
    assert of_brighter["mean_perturbation_norm"] > 0


def test_mistakes_in_naming_it_are_told(mirrored: Path, tmp_path: Path) -> None:
    twin = written(tmp_path / "twin/mirrored.py", MIRRORED + "\n")
    for recipes, told in (
        ([str(mirrored), str(twin)], "names an entry twice"),
        ([str(tmp_path / "nowhere.py")], "cannot be read"),
        (["mirored"], "is unknown.*or give a FILE.py"),
        (["mirrored.py@0123456789abcdef"], "cannot be read"),
    ):
        with pytest.raises(InputError, match=told):
            plan(*recipes)
    axis = written(tmp_path / "mirrored.py", changed('"share", "share"', '"share", "shore"'))
    with pytest.raises(InputError, match="has an axis of 'shore', which is not a field"):
        _ = GRIDS[recipe_named(str(axis)).identity]
    with pytest.raises(InputError, match=r"'mirrored\.py@0123456789abcdef' is someone's own recipe"):
        _ = RECIPES["mirrored.py@0123456789abcdef"]


def test_labels_that_go_wrong_on_the_images_end_the_stage_in_a_line(
    tmp_path: Path, local_store: Store
) -> None:
    seen = "given.labels + 10 * int((given.labels[:3] == REAL).all())"
    real = plan("clean")
    compute(real.stages[0], local_store)
    labels = StoredImages(local_store, real.stages[0].digest, "train").labels[:3].tolist()
    text = changed(LABELS, seen.replace("REAL", f"np.array({labels})"))
    made = plan(written(tmp_path / "mirrored.py", text))
    with pytest.raises(InputError, match=r"relabel returns the label 1\d, which is not one of 0 to 9"):
        compute_all(made, local_store)
