"""What a store holds, as tables, and each artifact loaded by its digest."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

import advfeat
from advfeat.catalogue.catalogue import Catalogue
from advfeat.catalogue.rows import StoredDataset
from advfeat.errors import InputError
from advfeat.models import Normalized, predict
from advfeat.planning import Plan, build_plan, load_experiment
from advfeat.storage import Store
from tests.inline import compute_all

SETTINGS = (
    *("data.train_size=200", "data.test_size=100", "source.epochs=2", "target.epochs=2", "attack.steps=3"),
    *("recipes=[clean,d_det,mislabeled,distillation,two_dimensional]", "seeds=[0,4]"),
    *("two_dimensional.planes=1", "two_dimensional.epochs=200"),
)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return build_plan(load_experiment("digits", SETTINGS))


@pytest.fixture(scope="module")
def catalogue(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    store = Store(str(tmp_path_factory.mktemp("catalogue") / "store"))
    compute_all(plan, store)
    return advfeat.store(store.uri)


def line(table: pd.DataFrame, digest: str) -> dict[str, object]:
    (found,) = table[table.digest == digest].to_dict("records")
    return {str(name): None if pd.isna(value) else value for name, value in found.items()}


@pytest.mark.slow
def test_every_artifact_says_what_it_is(catalogue: Catalogue, plan: Plan) -> None:
    table = catalogue.artifacts()
    assert set(table.digest) == {stage.digest for stage in plan.stages}
    made_of = plan.report.inputs
    of_d_det = line(table, made_of["d_det/4/dataset"])
    assert (of_d_det["recipe"], of_d_det["seed"], of_d_det["data"]) == ("d_det", 4, "digits")
    assert (of_d_det["norm"], of_d_det["eps"], of_d_det["source_model"]) == ("l2", 1.5, "cnn")
    assert (of_d_det["target_model"], of_d_det["images"]) == (None, 200)
    evaluation = line(table, made_of["d_det/0/evaluation"])
    assert (evaluation["recipe"], evaluation["seed"], evaluation["target_model"]) == ("d_det", 0, "cnn")
    assert isinstance(evaluation["test_accuracy"], float)
    of_clean = line(table, made_of["clean/0/target_model"])
    assert (of_clean["recipe"], of_clean["source_model"], of_clean["eps"]) == ("clean", None, None)
    assert line(table, made_of["clean/0/evaluation"])["source_model"] is None, "it is compared with one alone"
    assert (
        line(table, plan.report.digest)["recipe"] == "clean, d_det, mislabeled, distillation, two_dimensional"
    )
    assert line(table, made_of["two_dimensional/0/dataset"])["recipe"] == "two_dimensional"


def test_tables_are_of_one_stage_or_recipe(catalogue: Catalogue) -> None:
    assert set(catalogue.datasets().stage) == {"dataset"}
    assert len(catalogue.datasets(recipe="d_det")) == 2
    assert set(catalogue.artifacts(recipe="d_det").stage) == {
        *("shard", "dataset", "target_model", "evaluation", "report")
    }
    assert catalogue.runs().empty, "nobody recorded one"
    assert (table := catalogue.artifacts()).seed.dtype == "Int64"
    assert table.images.dtype == "Int64"


def test_a_data_set_is_one_for_pytorch_and_for_pandas(catalogue: Catalogue, plan: Plan) -> None:
    rows = catalogue.load(plan.report.inputs["d_det/0/dataset"][:12])
    assert isinstance(rows, StoredDataset)
    assert len(rows) == 200
    frame = rows.to_pandas()
    batches = list(DataLoader(rows, batch_size=64))
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert images.shape == (200, 1, 8, 8)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert labels.tolist() == frame.label.tolist()
    np.testing.assert_array_equal(np.stack(frame.image.to_list()), images.numpy())
    assert ((frame.original_label + 1) % 10 == frame.label).all()
    with pytest.raises(IndexError):
        rows[200]
    assert torch.equal(rows[-1][0], images[-1])


def test_soft_labels_and_real_images_come_as_they_are(catalogue: Catalogue, plan: Plan) -> None:
    soft = catalogue.load(plan.report.inputs["distillation/0/dataset"])
    assert isinstance(soft, StoredDataset)
    _, label = soft[3]
    assert (label.shape, label.dtype) == ((10,), torch.float32)
    assert float(label.sum()) == pytest.approx(1, abs=1e-5)
    for split, size in (("train", 200), ("test", 100)):
        real = catalogue.load(plan.report.inputs["images"], split)
        assert isinstance(real, StoredDataset)
        assert len(real) == size
        image, _ = real[0]
        assert 0 <= float(image.min()) < float(image.max()) <= 1
        assert real.to_pandas().image[0].dtype == np.uint8


def test_a_model_is_the_network_that_was_evaluated(catalogue: Catalogue, plan: Plan) -> None:
    network = catalogue.load(plan.report.inputs["clean/0/target_model"])
    assert isinstance(network, Normalized)
    assert not network.training
    test = catalogue.load(plan.report.inputs["images"], "test")
    assert isinstance(test, StoredDataset)
    images, labels = (torch.stack(column) for column in zip(*(test[row] for row in range(100)), strict=True))
    measured = line(catalogue.artifacts(), plan.report.inputs["clean/0/evaluation"])["test_accuracy"]
    assert float(np.mean(predict(network, images) == labels.numpy())) == measured


def test_what_is_neither_rows_nor_network_is_refused(catalogue: Catalogue, plan: Plan) -> None:
    with pytest.raises(InputError, match=r"of stage report.*give that of a data set"):
        catalogue.load(plan.report.digest)
    with pytest.raises(InputError, match="digest"):
        catalogue.load("0000")
