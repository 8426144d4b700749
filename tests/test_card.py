"""Cards and lineage: what they say is what the store holds, and their commands make the same again."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import s3fs
from huggingface_hub import DatasetCard
from PIL import Image

from advfeat.datasets.card import Card, card_of
from advfeat.datasets.lineage import lineage, lineage_text
from advfeat.datasets.remake import remaking_assignments, remaking_command
from advfeat.datasets.stored_rows import stored_tables
from advfeat.errors import DamagedArtifactError, InputError, MissingArtifactError
from advfeat.files.tables import bytes_column, with_image_shape, write_split
from advfeat.flows.command_line import cli
from advfeat.planning import Experiment, Plan, build_plan, load_experiment, load_reproduction
from advfeat.recipes import RECIPES
from advfeat.report.card import card_markdown
from advfeat.storage import Stage, Store
from tests.inline import compute

EVERY_RECIPE = [
    recipe
    for recipe, entry in RECIPES.items()
    if entry.learner != "network in the plane" and entry.originals != "unknown"
]
OTHER_SETTINGS = (
    *("seeds=[7]", "data.train_size=640", "data.test_size=100", "data.test_fraction=0.2", "source.epochs=3"),
    *("source.adversarial={eps: 0.5, steps: 3}", "source.augmentation=flip-crop", "source.ema_decay=0.99"),
    *("weak_source.learning_rate=1e-5", "robust_source.width=8", "robust_source.adversarial.eps=0.25"),
    *("attack.norm=linf", "attack.eps=0.1", "attack.step_size=0.01", "attack.stop_confidence=0.9"),
    *("permutation=[1,2,3,4,5,6,7,8,9,0]", "label_noise=0.25", "noise=gaussian", "rebuilding.steps=9"),
    *("cross_domain.balanced=true", "other_data.train_size=640", "guards=2"),
)


def put_on_record(plan: Plan, store: Store) -> list[Stage]:
    """Give a store the manifests of a plan's images, source models and data sets; return the data sets.

    They are published as computed ones are, but with an empty file in them.
    """
    sizes = {"train_size": 1, "test_size": 1, "classes": ["0"], "image_shape": [1, 8, 8]}
    accuracies = {"test_accuracy": 0.5, "train_accuracy": 0.5, "epoch_losses": [1.0]}

    def build(folder: Path) -> dict[str, object]:
        (folder / "empty").touch()
        return {**sizes, **accuracies}

    for stage in plan.stages:
        if stage.kind in ("images", "source_model", "dataset"):
            store.write_stage(stage, build)
    return [stage for stage in plan.stages if stage.kind == "dataset"]


@pytest.mark.parametrize("settings", [(), OTHER_SETTINGS], ids=["as preset", "other settings"])
def test_commands_make_every_recipes_data_set_under_the_same_digest(
    settings: tuple[str, ...], local_store: Store
) -> None:
    experiment = load_experiment("digits", [f"recipes=[{','.join(EVERY_RECIPE)}]", *settings])
    assert_commands_make_the_same(experiment, local_store)


def test_so_do_those_of_named_sets_and_published_settings(local_store: Store) -> None:
    published = load_reproduction("cifar10-paper")
    in_images = [recipe for recipe in published.recipes if recipe in EVERY_RECIPE]
    alone = load_reproduction("cifar10-paper", [f"recipes=[{','.join(in_images)}]"])
    assert_commands_make_the_same(alone, local_store)
    assert_commands_make_the_same(load_experiment("mnist", ["recipes=[cross_domain]"]), local_store)


def assert_commands_make_the_same(experiment: Experiment, store: Store) -> None:
    for stage in put_on_record(build_plan(experiment), store):
        preset, assignments = remaking_assignments(store, store.manifest(stage.digest))
        plan = build_plan(load_experiment(preset, assignments))
        assert stage.digest in {other.digest for other in plan.stages}, (stage.title, assignments)


def test_a_command_says_what_differs_from_the_preset_and_nothing_else(local_store: Store) -> None:
    (stage,) = put_on_record(
        build_plan(load_experiment("digits", ["recipes=[d_det]", "seeds=[3]", "attack.eps=1.0"])), local_store
    )
    command = remaking_command(local_store, local_store.manifest(stage.digest))
    assert command == "advfeat run digits --set attack.eps=1.0 --set 'recipes=[d_det]' --set 'seeds=[3]'"


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Plan]:
    """A data set of each kind of input: of the digits, attacked, and of pictures in a user's folders."""
    store = Store(str(tmp_path_factory.mktemp("store")))
    few = ["seeds=[0]", "data.train_size=256", "source.epochs=2", "attack.steps=2", "shards=1"]
    plan = build_plan(load_experiment("digits", [*few, "recipes=[d_rand]"]))
    for stage in plan.stages:
        if stage.kind in ("images", "source_model", "shard", "dataset"):
            compute(stage, store)
    return store, plan


def test_a_card_says_what_the_store_holds(computed: tuple[Store, Plan]) -> None:
    store, plan = computed
    images, source, _, data_set = plan.stages[:4]
    card = card_of(store, data_set.digest)
    rows = pa.concat_tables(stored_tables(store, data_set.digest)).to_pandas()
    assert card.splits == {"train": 256}
    counts = rows["label"].value_counts()
    assert card.class_balance == {"train": {str(label): counts.get(label, 0) for label in range(10)}}
    assert card.attack_success == (rows["source_prediction_after"] == rows["label"]).mean()
    assert card.wrong_label_share == (rows["original_label"] != rows["label"]).mean()
    assert (card.norm, card.max_perturbation_norm) == ("l2", rows["perturbation_norm"].max())
    (model,) = card.models
    assert model.test_accuracy == store.manifest(source.digest).metrics["test_accuracy"]
    assert model.training == source.parameters["training"]
    assert [(entry.source, entry.licence) for entry in card.images] == [("digits", "cc-by-4.0")]
    assert {link.digest for link in card.made_from} == {data_set.digest, images.digest, source.digest}
    assert card.parameters == data_set.parameters
    assert Card.model_validate_json(card.model_dump_json()) == card


def noise(store: Store, shape: tuple[int, ...], *, rows: int, told: int) -> str:
    """Publish real images that nothing packs, and say of how many rows; return their digest."""
    rng = np.random.default_rng(0)

    def build(folder: Path, finished: Callable[[Path], None]) -> dict[str, object]:
        for split, count in (("train", rows), ("test", 10)):
            pixels = rng.integers(0, 256, (count, *shape), np.uint8)
            table = pa.table({"image": bytes_column(pixels), "label": pa.array(np.arange(count) % 3)})
            write_split([with_image_shape(table, shape)], folder, split, finished)
        sizes = {"train_size": told, "test_size": 10}
        return {**sizes, "image_shape": list(shape), "classes": ["a", "b", "c"]}

    parameters = {"identity": {"bundled": "digits"}, "train_size": None, "test_size": None}
    return store.write_streamed(Stage(kind="images", title="images", parameters=parameters), build).digest


@pytest.fixture
def large_images(store: Store) -> str:
    """The digest of 32 MB of images."""
    return noise(store, (3, 64, 64), rows=2600, told=2600)


def test_a_card_reads_labels_and_leaves_the_images_alone(
    store: Store, large_images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[int] = []
    fetch = s3fs.core.S3File._fetch_range

    def counted(file: s3fs.core.S3File, start: int, end: int) -> bytes:
        content: bytes = fetch(file, start, end)
        fetched.append(len(content))
        return content

    monkeypatch.setattr(s3fs.core.S3File, "_fetch_range", counted)
    balance = card_of(store, large_images).class_balance
    assert balance == {"train": {"a": 867, "b": 867, "c": 866}, "test": {"a": 4, "b": 3, "c": 3}}
    stored = store.manifest(large_images).bytes
    assert stored > 30e6
    if not store.is_local:
        assert 0 < sum(fetched) < stored / 20


def damage(store: Store, digest: str, change: Callable[[bytes], bytes]) -> None:
    (file,) = (file for file in store.manifest(digest).files if file.name.startswith("train"))
    path = Path(store.artifact_uri(digest)) / file.path
    content = path.read_bytes()
    path.write_bytes(change(content))


@pytest.mark.parametrize("store", ["local"], indirect=True)
def test_a_card_refuses_what_it_reads_and_leaves_the_rest_to_verify(store: Store, large_images: str) -> None:
    def rot(content: bytes) -> bytes:
        return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]

    whole = card_of(store, large_images)
    damage(store, large_images, rot)
    assert card_of(store, large_images) == whole
    assert "SHA-256" in str(store.verify(large_images))
    damage(store, large_images, rot)
    assert store.verify(large_images) is None

    damage(store, large_images, lambda content: content + b" ")
    with pytest.raises(DamagedArtifactError, match="its manifest says"):
        card_of(store, large_images)
    damage(store, large_images, lambda content: bytes(len(content) - 1))
    with pytest.raises(DamagedArtifactError, match="the table cannot be read"):
        card_of(store, large_images)


def test_a_card_counts_as_many_labels_as_there_are_said_to_be(local_store: Store) -> None:
    digest = noise(local_store, (1, 8, 8), rows=20, told=21)
    with pytest.raises(DamagedArtifactError, match="holds other rows than its manifest says"):
        card_of(local_store, digest)


def test_hugging_face_reads_its_front_matter(computed: tuple[Store, Plan]) -> None:
    store, plan = computed
    text = card_markdown(card_of(store, plan.stages[3].digest), "*.parquet", "import pandas")
    front = DatasetCard(text).data
    assert front.get("license") == "cc-by-4.0"
    assert front.get("size_categories") == ["n<1K"]
    assert front.get("pretty_name") == "d_rand of digits, seed 0"
    (config,) = front.get("configs")
    assert config["data_files"] == [{"split": "train", "path": "train/*.parquet"}]
    for stage in (plan.stages[0], plan.stages[1], plan.stages[3]):
        assert stage.digest in text


def test_a_source_model_may_lack_fields_that_came_later(computed: tuple[Store, Plan]) -> None:
    store, plan = computed
    card = card_of(store, plan.stages[3].digest)
    (model,) = card.models
    earlier = {name: value for name, value in model.training.items() if name != "epochs"}
    model = model.model_copy(update={"training": earlier})
    assert "cnn, 2 epochs" in card_markdown(card.model_copy(update={"models": (model,)}))


def test_images_of_a_users_own_have_no_licence_and_names_break_no_table(
    local_store: Store, tmp_path: Path
) -> None:
    names = ["a|b", "<i>cat"]
    for number, name in enumerate(names):
        for picture in range(4):
            path = tmp_path / "mine" / name / f"{picture}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 50 * number + picture).save(path)
    fields = [f"data.source=folder:{tmp_path / 'mine'}", "recipes=[clean]", "seeds=[0]"]
    plan = build_plan(load_experiment("digits", fields))
    for stage in plan.stages[:2]:
        compute(stage, local_store)
    card = card_of(local_store, plan.stages[1].digest)
    assert [entry.licence for entry in card.images] == ["unknown"]
    assert str(tmp_path) not in card.model_dump_json(), "where files lie is nobody's business"
    text = card_markdown(card)
    assert "| 1 | a&#124;b | 3 |" in text
    assert "<i>" not in text.partition("## Parameters")[0].rpartition("---\n")[2]
    preset, assignments = remaking_assignments(local_store, local_store.manifest(card.digest))
    again = [entry.replace("PATH", str(tmp_path / "mine")) for entry in assignments]
    assert card.digest in {stage.digest for stage in build_plan(load_experiment(preset, again)).stages}


def test_lineage_draws_the_chain_once_and_says_what_is_missing(
    computed: tuple[Store, Plan], local_store: Store
) -> None:
    store, plan = computed
    images, source, _, data_set = plan.stages[:4]
    chain = lineage(store, data_set.digest)
    lines = lineage_text(chain).splitlines()
    assert [line.lstrip("├└│─ ").split("  ")[0] for line in lines] == [
        f"dataset {data_set.digest[:12]}",
        f"images: images {images.digest[:12]}",
        f"source_model: source_model {source.digest[:12]}",
        f"images: images {images.digest[:12]}",
    ]
    assert lines[-1].endswith("see above")
    accuracy = 100 * store.manifest(source.digest).metrics["test_accuracy"]
    assert f"cnn, 2 epochs, seed 0, test accuracy {accuracy:.1f} %" in lines[2]

    local_store.fs.copy(store.root, local_store.root, recursive=True)
    local_store.withdraw(images.digest)
    manifest = Path(local_store.artifact_uri(source.digest)) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"width": 24', '"width": 25'))
    said = [link.says for link in lineage(local_store, data_set.digest).values()][1:]
    assert said == ["not in the store", "damaged: manifest.json was changed after it was written"]


def test_commands_print_them(
    computed: tuple[Store, Plan], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, plan = computed
    digest = plan.stages[3].digest

    def printed(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["advfeat", *words, "--store", store.uri])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    assert Card.model_validate_json(printed("card", digest[:10], "--json")) == card_of(store, digest)
    assert printed("card", digest[:10]).startswith("---\npretty_name: d_rand of digits")
    links = json.loads(printed("lineage", digest[:10], "--json"))
    assert [link["digest"] for link in links] == list(lineage(store, digest))
    assert printed("lineage", digest[:10]) == lineage_text(lineage(store, digest)) + "\n"


def test_a_model_has_no_card(computed: tuple[Store, Plan]) -> None:
    with pytest.raises(InputError, match="is a source_model, not a data set"):
        card_of(computed[0], computed[1].stages[1].digest)


def told(store: Store, stage: Stage, metrics: dict[str, object]) -> str:
    """Publish an artifact of an empty file, as somebody else may; return its digest."""

    def build(folder: Path) -> dict[str, object]:
        (folder / "empty").touch()
        return metrics

    return store.write_stage(stage, build).digest


@pytest.mark.parametrize(
    ("stage", "metrics", "complaint"),
    [
        (
            Stage(kind="evaluation", title="", parameters={"attack": "x"}),
            {"test_accuracy": 0.5},
            "parameters.attack: ",
        ),
        (Stage(kind="shard", title="", parameters={"recipe": ["d_rand"]}), {}, "parameters.recipe: "),
        (Stage(kind="leakage", title="", parameters={}), {"test_accuracy": "x"}, "metrics.test_accuracy: "),
        (Stage(kind="report", title="", parameters={"training": 5}), {}, "parameters.training: "),
    ],
)
def test_a_manifest_that_says_what_no_stage_would_is_damaged(
    local_store: Store, stage: Stage, metrics: dict[str, object], complaint: str
) -> None:
    chain = lineage(local_store, told(local_store, stage, metrics))
    assert f"damaged: manifest.json is unreadable ({complaint}" in lineage_text(chain)


def test_a_shard_that_tells_no_size_is_drawn(local_store: Store) -> None:
    shard = Stage(kind="shard", title="", parameters={"recipe": "d_rand"})
    assert "d_rand" in lineage_text(lineage(local_store, told(local_store, shard, {})))


@pytest.mark.slow
def test_a_chain_of_any_length_is_drawn_as_far_as_can_be_read(local_store: Store) -> None:
    digest = told(local_store, Stage(kind="leakage", title="", parameters={}), {})
    for _ in range(1200):
        stage = Stage(kind="leakage", title="", parameters={}, inputs={"dataset": digest})
        digest = told(local_store, stage, {})
    *_, last = lines = lineage_text(chain := lineage(local_store, digest)).splitlines()
    assert (len(chain), len(lines)) == (1201, 101)
    assert last.endswith(f"dataset: leakage {list(chain)[100][:12]}  …")


def test_inputs_that_are_missing_or_of_another_stage_are_refused_in_a_line(local_store: Store) -> None:
    leakage = told(local_store, Stage(kind="leakage", title="", parameters={}), {})
    parameters = {"identity": {"bundled": "digits"}, "train_size": None, "test_size": None}
    sizes: dict[str, object] = {"train_size": 1, "test_size": 1, "classes": ["0"], "image_shape": [1, 8, 8]}
    images = told(local_store, Stage(kind="images", title="", parameters=parameters), sizes)
    for recipe, inputs, complaint in (
        ("shuffled", {"images": leakage}, "is of stage leakage, not images"),
        ("d_rand", {"images": images}, "does not name the source_model that it was made from"),
        ("d_rand", {"images": images, "source_model": images}, "is of stage images, not source_model"),
    ):
        stage = Stage(kind="dataset", title="", parameters={"recipe": recipe, "seed": 0}, inputs=inputs)
        manifest = local_store.manifest(told(local_store, stage, {"train_size": 0}))
        with pytest.raises(DamagedArtifactError, match=complaint):
            remaking_command(local_store, manifest)
        with pytest.raises((DamagedArtifactError, MissingArtifactError)):
            card_of(local_store, manifest.digest)
