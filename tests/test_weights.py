"""Weights that somebody else trained: usual layouts are read, and what does not fit is refused in a line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advfeat.datasets.card import card_of
from advfeat.datasets.lineage import lineage, lineage_text
from advfeat.datasets.remake import remaking_command
from advfeat.errors import InputError
from advfeat.models import Normalized, build
from advfeat.models.weights import fitted, read_weights
from advfeat.planning import Plan, build_plan, load_experiment, load_grid, outlook
from advfeat.planning.grid import points
from advfeat.spec import SourceSpec
from advfeat.stages.model import read_model
from advfeat.storage import Store
from tests.inline import compute, compute_all

SMALL = (
    *("recipes=[d_rand]", "seeds=[0]", "data.train_size=64", "data.test_size=40", "shards=1"),
    *("source.epochs=1", "source.width=4", "target.epochs=1", "target.width=4", "attack.steps=1"),
)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
SHAPE, CLASSES = (3, 16, 16), 10


def network(name: str = "cnn") -> Normalized:
    torch.manual_seed(1)
    model = build(name, width=4, image_shape=SHAPE, classes=CLASSES).eval()
    for tensor in model.network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.01 * torch.rand_like(tensor))
    return model


def before(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def of_madry(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """As MadryLab's robustness saves what it trained: the attacker has the network once more."""
    statistics = {
        "new_mean": torch.tensor(MEAN).view(3, 1, 1),
        "new_std": torch.tensor(STD).view(3, 1, 1),
    }
    state = {
        **before("module.normalizer.", statistics),
        **before("module.model.", tensors),
        **before("module.attacker.normalize.", statistics),
        **before("module.attacker.model.", tensors),
    }
    return {"model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "epoch": 150}


LAYOUTS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain.pt": lambda tensors: tensors,
    "compiled.pth": lambda tensors: before("_orig_mod.", tensors),
    "parallel.pt": lambda tensors: {"epoch": 3, "state_dict": before("module.", tensors), "best": 0.9},
    "lightning.ckpt": lambda tensors: {"state_dict": before("model.net.", tensors), "global_step": 7},
    "with-its-loss.pt": lambda tensors: {"loss": torch.tensor(0.1), "model": tensors},
    "double.pt": lambda tensors: {name: t.double() if t.ndim else t for name, t in tensors.items()},
    "old.pt": lambda tensors: {name: t for name, t in tensors.items() if "num_batches" not in name},
    "madry.pt": of_madry,
    "normalized.pt": lambda tensors: {
        "0.mean": torch.tensor(MEAN).view(1, 3, 1, 1),
        "0.std": torch.tensor(STD).view(1, 3, 1, 1),
        **before("1.", tensors),
    },
    "buffers.pt": lambda tensors: {"mu": torch.tensor(MEAN), "sigma": torch.tensor(STD), **tensors},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_usual_layouts_are_read(name: str, tmp_path: Path) -> None:
    model, path, images = network(), tmp_path / name, torch.rand(5, *SHAPE)
    torch.save(LAYOUTS[name](model.network.state_dict()), path)
    own = name in ("madry.pt", "normalized.pt", "buffers.pt")
    given = {} if own else {"mean": MEAN, "std": STD}
    spec = SourceSpec(width=4, weights=str(path), **given)
    found = fitted(read_weights(str(path)), spec, SHAPE, CLASSES)
    model.set_statistics(torch.tensor(MEAN), torch.tensor(STD))
    assert torch.allclose(found(images), model(images), atol=1e-6)
    assert not found.training


def test_without_statistics_pixels_are_taken_as_they_are(tmp_path: Path) -> None:
    model, images = network(), torch.rand(5, *SHAPE)
    safetensors.torch.save_file(model.network.state_dict(), tmp_path / "net.safetensors")
    spec = SourceSpec(width=4, weights=str(tmp_path / "net.safetensors"))
    found = fitted(read_weights(str(tmp_path / "net.safetensors")), spec, SHAPE, CLASSES)
    assert torch.equal(found(images), model.network(images))


def test_cifar_resnets_have_other_names(tmp_path: Path) -> None:
    """RobustBench's and MadryLab's: ``shortcut`` and ``linear`` where torchvision says downsample and fc."""
    model, images = network("resnet18"), torch.rand(2, *SHAPE)
    renamed = {
        name.replace(".downsample.", ".shortcut.").replace("fc.", "linear."): value
        for name, value in model.network.state_dict().items()
    }
    torch.save({"state_dict": before("module.", renamed)}, tmp_path / "resnet.pt")
    spec = SourceSpec(model="resnet18", weights=str(tmp_path / "resnet.pt"))
    found = fitted(read_weights(str(tmp_path / "resnet.pt")), spec, SHAPE, CLASSES)
    assert torch.equal(found(images), model(images))


class Block(nn.Module):
    """A block of the wide ResNet that RobustBench's state dicts are of."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        if inputs != outputs:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        activated = F.relu(self.bn1(inputs))
        outputs = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        shortcut: Tensor = self.convShortcut(activated) if hasattr(self, "convShortcut") else inputs
        total: Tensor = shortcut + outputs
        return total


class Group(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(Block(inputs, outputs, stride), Block(outputs, outputs, 1))


class Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1, self.block2, self.block3 = Group(16, 32, 1), Group(32, 64, 2), Group(64, 128, 2)
        self.bn1, self.fc = nn.BatchNorm2d(128), nn.Linear(128, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        for group in (self.block1, self.block2, self.block3):
            images = group.layer(self.conv1(images) if group is self.block1 else images)
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(F.relu(self.bn1(images)), 1).flatten(1))
        return logits


def test_wide_resnets_of_robustbench(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from advfeat.models.wide_resnet import wide_resnet\n"
        "def wide(channels, classes): return wide_resnet(channels, classes, depth=16, widen=2)\n"
    )
    theirs, images = Wide().eval(), torch.rand(4, *SHAPE)
    torch.save({"state_dict": before("module.", theirs.state_dict())}, tmp_path / "wide.pt")
    spec = SourceSpec(model=f"{tmp_path / 'net.py'}:wide", weights=str(tmp_path / "wide.pt"))
    found = fitted(read_weights(str(tmp_path / "wide.pt")), spec, SHAPE, CLASSES)
    assert torch.allclose(found(images), theirs(images), atol=1e-5)


def complaint(path: Path, **given: Any) -> str:
    spec = SourceSpec(**{"width": 4, "weights": str(path), **given})
    with pytest.raises(InputError) as refused:
        fitted(read_weights(str(path)), spec, SHAPE, CLASSES)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_does_not_fit_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    tensors = network().network.state_dict()
    torch.save(tensors, path)
    assert "is of another network than resnet9 (missing: " in complaint(path, model="resnet9")
    assert "left over: " in complaint(path, model="resnet9")
    assert "of another shape: 0.0.weight (4, 3, 3, 3) for (8, 3, 3, 3)" in complaint(path, width=8)
    assert "mean: [0.5, 0.5] has 2 values, the images have 3 channels" in complaint(
        path, mean=(0.5, 0.5), std=(0.5, 0.5)
    )
    assert "mean: [125.0, 123.0, 114.0] is not of pixels in [0, 1]; divide it by 255" in complaint(
        path, mean=(125, 123, 114), std=(0.2, 0.2, 0.2)
    )
    torch.save(build("cnn", width=4, image_shape=SHAPE, classes=100).network.state_dict(), path)
    assert "knows 100 classes, the images have 10" in complaint(path)
    torch.save({name: (100 * value).to(torch.int8) for name, value in tensors.items()}, path)
    assert "as torch.int8; give weights that are not quantized" in complaint(path)
    torch.save({name: value * torch.nan for name, value in tensors.items() if value.ndim}, path)
    assert "not finite" in complaint(path)
    torch.save({"epoch": 3, "history": [1, 2]}, path)
    assert "holds no tensors by name, but epoch, history" in complaint(path)
    torch.save(network(), path)
    assert "without running code of the file; save model.state_dict()" in complaint(path)
    path.write_bytes(b"no weights")
    assert "without running code of the file" in complaint(path)
    path.unlink()
    assert "cannot be read" in complaint(path)
    assert "cannot be read" in complaint(tmp_path)


def test_a_name_with_digits_means_that_content(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(network().network.state_dict(), path)
    name = read_weights(str(path)).name
    assert name.startswith("net.pt@")
    known = f"{path}@{name.partition('@')[2]}"
    assert read_weights(known).name == name
    torch.save(network("resnet9").network.state_dict(), path)
    with pytest.raises(InputError, match="has other content now"):
        read_weights(known)


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("source.mean=[0.1]", "belong together"),
        ("source={mean: [0.1], std: [0.2]}", "those that weights expect"),
        ("target.weights=net.pt", "weights"),
        (f"source={{weights: {'a' * 64}, mean: [0.1], std: [0.2]}}", "in the stored model"),
    ],
)
def test_settings_that_cannot_be(assignment: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        load_experiment("digits", [*SMALL, assignment])


def planned(*assignments: str) -> Plan:
    return build_plan(load_experiment("digits", [*SMALL, *assignments]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Plan]:
    """A run whose source model is trained."""
    store, plan = Store(str(tmp_path_factory.mktemp("trained"))), planned()
    compute_all(plan, store)
    return store, plan


def dataset_files(store: Store, plan: Plan) -> Any:
    return store.manifest(plan.report.inputs["d_rand/0/dataset"]).files


def row(store: Store, plan: Plan) -> dict[str, Any]:
    (found,) = json.loads(store.read(plan.report.digest, "rows.json"))
    result: dict[str, Any] = found
    return result


def test_weights_of_a_file_take_the_place_of_the_training(
    trained: tuple[Store, Plan], tmp_path: Path
) -> None:
    """The same data set, to the last byte, with no training but the target model's."""
    store, first = trained
    content = store.read(first.report.inputs["d_rand/0/source_model"], "model.safetensors")
    (tmp_path / "ours.safetensors").write_bytes(content)
    plan = planned(f"source.weights={tmp_path / 'ours.safetensors'}", "seeds=[0,1]")
    kinds = [stage.kind for stage in plan.stages]
    assert "source_model" not in kinds
    assert kinds.count("weights") == kinds.count("pretrained_model") == 1, "all seeds have the same"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "ours.safetensors").rename(tmp_path / "elsewhere" / "ours.safetensors")
    moved = planned(f"source.weights={tmp_path / 'elsewhere' / 'ours.safetensors'}", "seeds=[0,1]")
    assert [stage.digest for stage in moved.stages] == [stage.digest for stage in plan.stages]

    alone = planned(f"source.weights={tmp_path / 'elsewhere' / 'ours.safetensors'}")
    compute_all(alone, store)
    assert dataset_files(store, alone) == dataset_files(store, first)
    ours, theirs = row(store, alone), row(store, first)
    assert ours["source_accuracy"] == theirs["source_accuracy"]
    assert ours["source_model"] == "cnn"
    assert "cnn (weights ours.safetensors@" in ours["setting"]

    dataset = alone.report.inputs["d_rand/0/dataset"]
    manifest = store.manifest(dataset)
    assert "source.weights=ours.safetensors@" in remaking_command(store, manifest)
    (model,) = card_of(store, dataset).models
    assert model.weights is not None
    assert model.weights.startswith("ours.safetensors@")
    assert "weights ours.safetensors@" in lineage_text(lineage(store, dataset))


def test_a_stored_model_is_a_source_by_its_digest(
    trained: tuple[Store, Plan], local_store: Store, tmp_path: Path
) -> None:
    store, first = trained
    digest = first.report.inputs["d_rand/0/source_model"]
    plan = planned(f"source.weights={digest}")
    assert [stage.kind for stage in plan.stages if "model" in stage.kind] == [
        "pretrained_model",
        "target_model",
    ]
    outlook(plan, store)
    compute_all(plan, store)
    assert dataset_files(store, plan) == dataset_files(store, first)
    assert row(store, plan)["source_model"] == "cnn"
    assert f"model {digest[:12]}" in row(store, plan)["setting"]
    target = first.report.inputs["d_rand/0/target_model"]
    outlook(planned(f"source.weights={target}"), store)

    def refused(*assignments: str, place: Store = store) -> str:
        with pytest.raises(InputError) as told:
            outlook(planned(*assignments), place)
        return str(told.value)

    assert "is not in the store" in refused(f"source.weights={digest}", place=local_store)
    images = first.report.inputs["images"]
    assert "is of stage images, not a model" in refused(f"source.weights={images}")
    labels = np.arange(80) % 10
    pixels = np.random.default_rng(0).integers(0, 256, (80, 16, 16), np.uint8)
    np.savez(tmp_path / "larger.npz", x_train=pixels, y_train=labels)
    larger = f"data={{source: 'numpy:{tmp_path / 'larger.npz'}', train_size: 50}}"
    assert "is for images of 1 x 8 x 8, these are 1 x 16 x 16" in refused(f"source.weights={digest}", larger)
    patches = "data={source: photo-patches, train_size: 50, test_size: 20}"
    assert "knows 10 classes, the images have " in refused(f"source.weights={digest}", patches)


def test_a_file_that_changed_since_the_plan_is_refused(local_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(build("cnn", width=4, image_shape=(1, 8, 8), classes=10).network.state_dict(), path)
    plan = planned(f"source.weights={path}")
    torch.save(build("cnn", width=4, image_shape=(1, 8, 8), classes=10).network.state_dict(), path)
    (stage,) = (stage for stage in plan.stages if stage.kind == "weights")
    with pytest.raises(InputError, match="has changed since the run was planned"):
        compute(stage, local_store)


def test_robust_features_take_robust_weights(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(build("cnn", width=4, image_shape=(1, 8, 8), classes=10).network.state_dict(), path)
    robust = f"robust_source={{weights: '{path}', width: 4}}"
    kinds = [stage.kind for stage in planned("recipes=[robust_features]", robust).stages]
    assert "source_model" not in kinds
    titles = [s.title for s in planned("recipes=[non_robust_features]", robust).stages]
    assert "standard source model, seed 0" in titles, "that one is trained"


def test_an_axis_that_weights_would_ignore_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(build("cnn", width=4, image_shape=(1, 8, 8), classes=10).network.state_dict(), path)
    settings = f"settings=['source.weights={path}', 'source.width=4']"
    for axis in ("source_epochs=[1,2]", "source_eps=[0,0.5]"):
        with pytest.raises(InputError, match="is of a training"):
            points("d_rand", load_grid("d_rand", [axis, settings]))
    assert len(points("d_rand", load_grid("d_rand", ["eps=[0.5,1.0]", "seeds=[0]", settings]))) == 2


def test_what_was_read_is_the_network_of_the_store(trained: tuple[Store, Plan]) -> None:
    store, plan = trained
    digest = plan.report.inputs["d_rand/0/source_model"]
    again = planned(f"source.weights={digest}")
    compute_all(again, store)
    (stage,) = (stage for stage in again.stages if stage.kind == "pretrained_model")
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(read_model(store, stage.digest)(images), read_model(store, digest)(images))
