"""What stages ask of nodes, told from what the nodes say they have."""

from typing import Any

import pytest

from advfeat.flows.walk import resources
from advfeat.flows.walk.resources import shortage
from advfeat.planning import build_plan, load_experiment
from advfeat.storage import Stage

WITH_GPUS = {"CPU": 8.0, "GPU": 2.0, "memory": 8e9}
WITHOUT = {"CPU": 16.0, "memory": 64e9}


@pytest.fixture
def stages() -> dict[str, Stage]:
    plan = build_plan(load_experiment("digits", ["recipes=[d_rand]", "seeds=[0]", "shards=2"]))
    return {stage.kind: stage for stage in plan.stages}


def of_nodes(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, Any]) -> None:
    monkeypatch.setattr(resources, "_nodes", lambda: list(nodes))


@pytest.mark.parametrize("share", [None, 0.25, 1])
def test_only_what_sends_images_through_a_network_asks_for_a_gpu(
    stages: dict[str, Stage], monkeypatch: pytest.MonkeyPatch, share: float | None
) -> None:
    of_nodes(monkeypatch, WITH_GPUS, WITHOUT)
    asked = {kind: resources.resources(stage, share).get("num_gpus") for kind, stage in stages.items()}
    on_gpus = dict.fromkeys(("source_model", "shard", "target_model", "evaluation"), share or 1)
    assert asked == dict.fromkeys(asked) | on_gpus


def test_a_cluster_without_gpus_is_asked_for_none_but_by_name(
    stages: dict[str, Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_nodes(monkeypatch, WITHOUT)
    assert "num_gpus" not in resources.resources(stages["shard"])
    assert resources.resources(stages["shard"], 0.5)["num_gpus"] == 0.5
    assert shortage(stages["shard"]) is None
    missing = shortage(stages["shard"], 0.5)
    assert missing is not None
    assert "1 cores and 0.5 GPU" in missing


def test_a_node_with_a_gpu_has_the_memory_that_is_asked_for(
    stages: dict[str, Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a stage waits for ever where the largest node has none."""
    of_nodes(monkeypatch, WITH_GPUS | {"memory": 1000}, WITHOUT)
    assert resources.resources(stages["shard"])["memory"] == 1000
    assert resources.resources(stages["dataset"])["memory"] > 1000
