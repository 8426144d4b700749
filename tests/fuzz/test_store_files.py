"""What lies in a store, damaged or lying: it is read or refused in one line, and does no harm."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advfeat.datasets.card import card_of, data_set_manifest
from advfeat.datasets.lineage import lineage, lineage_text
from advfeat.datasets.remake import remaking_command
from advfeat.datasets.stored_rows import images_and_labels, stored_parts, stored_tables
from advfeat.digest import canonical_json, stage_digest
from advfeat.files.tables import Pixel
from advfeat.planning import build_plan, load_experiment
from advfeat.report.card import card_markdown
from advfeat.report.rows import read_rows
from advfeat.stages.images import image_shape
from advfeat.stages.inline import compute
from advfeat.storage import Manifest, Stage, Store
from advfeat.storage.runs import RunRecord, StageCounts, keep_record, plan_path, read_plan, read_records
from advfeat.tasks.cache_records import CacheRecords
from tests.fuzz.mutation import damaged_bytes, damaged_json
from tests.fuzz.refused import refused_in_a_line
from tests.fuzz.settings import fuzz

PAYLOAD = b"payload" * 100
DIGEST = "a" * 64


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("fuzz") / "store"))


@pytest.fixture(scope="module")
def manifest(place: Store) -> Manifest:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "payload.bin").write_bytes(PAYLOAD)
        return {"classes": ["cat", "dog"], "image_shape": [1, 8, 8], "test_accuracy": 0.5}

    parameters = {"eps": 0.5, "training": {"width": 8, "model": "cnn"}, "rows": [0, 16]}
    stage = Stage(kind="evaluation", title="e", parameters=parameters, inputs={"images": "b" * 64})
    return place.manifest(place.write_stage(stage, build).digest)


def read_as_manifest(place: Store, digest: str, content: bytes) -> None:
    path = Path(place.root) / "artifacts" / digest / "manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    refused_in_a_line(lambda: place.state(digest))
    refused_in_a_line(lambda: place.verify(digest))
    refused_in_a_line(lambda: place.read(digest, "payload.bin"))
    refused_in_a_line(lambda: place.manifest(digest).reference(place.artifact_uri(digest)).model_dump_json())
    path.unlink()


@fuzz
@given(data=st.data())
def test_bytes_of_manifests(place: Store, manifest: Manifest, data: st.DataObject) -> None:
    content = data.draw(damaged_bytes([manifest.model_dump_json(indent=2).encode()]))
    read_as_manifest(place, DIGEST, content)


@fuzz
@given(data=st.data())
def test_manifests_that_were_sealed_again(place: Store, manifest: Manifest, data: st.DataObject) -> None:
    text = data.draw(damaged_json([manifest.model_dump(mode="json")]))
    digest = DIGEST
    try:
        content = json.loads(text)
        content = sealed(content)
        digest, text = content["digest"], json.dumps(content)
    except (ValueError, TypeError, KeyError, RecursionError):
        digest = DIGEST  # what cannot be sealed is tried as it is
    read_as_manifest(place, digest, text.encode(errors="surrogatepass"))


RECORD = RunRecord(
    run="0" * 8, flow="f", title="t", state="completed", began="2026-11-25T10:00:00+00:00", seconds=1.5,
    stages=StageCounts(total=3, computed=1, cached=2), report=DIGEST,
)  # fmt: skip


@fuzz
@given(
    content=damaged_json([RECORD.model_dump(mode="json")]).map(
        lambda text: text.encode(errors="surrogatepass")
    )
    | damaged_bytes([RECORD.model_dump_json().encode()])
)
def test_records_of_runs(place: Store, content: bytes) -> None:
    keep_record(place, RECORD)
    place.put(f"{place.root}/runs/damaged.json", content)
    found = read_records(place)
    assert RECORD in found
    for record in found:
        assert f"{record.run}{record.flow}{record.title}{record.began}".isprintable()


REFERENCE = {
    "digest": DIGEST,
    "stage": "images",
    "uri": "/s",
    "bytes": 1,
    "created": "2026",
    "metrics": {"a": [1]},
}
CACHE_RECORD = {
    "metadata": {"serializer": {"type": "json", "object_decoder": None}, "storage_key": DIGEST},
    "result": json.dumps(REFERENCE),
}


@fuzz
@given(
    content=damaged_json([CACHE_RECORD]).map(lambda text: text.encode(errors="surrogatepass"))
    | damaged_json([REFERENCE]).map(lambda text: json.dumps({**CACHE_RECORD, "result": text}).encode())
    | damaged_bytes([json.dumps(CACHE_RECORD).encode()])
)
def test_cache_records(place: Store, content: bytes) -> None:
    place.put(f"{place.cache}/{DIGEST}", content)
    try:
        record = json.loads(CacheRecords(store=place.uri).read_path(DIGEST))
    except ValueError:
        return
    assert record["metadata"]["serializer"]["type"] == "json"
    assert record["metadata"]["serializer"]["object_decoder"] is None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Manifest]]:
    """A store with the artifacts of a small experiment, one of each stage: of the data sets, the attacked."""
    store = Store(str(tmp_path_factory.mktemp("fuzz") / "made"))
    experiment = load_experiment(
        "digits",
        [
            *("recipes=[leakage,d_rand,two_dimensional]", "seeds=[0]", "data.train_size=40"),
            *("source.epochs=1", "source.width=4", "weak_source.epochs=1", "weak_source.width=4"),
            *("target.epochs=1", "target.width=4", "attack.steps=1", "evaluation.attack.eps=0.5"),
            *("evaluation.attack.steps=1", "two_dimensional.planes=1", "two_dimensional.epochs=1"),
        ],
    )
    plan = build_plan(experiment)
    return store, {stage.kind: store.manifest(compute(stage, store).digest) for stage in plan.stages}


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Give what a manifest says the digest and the checksum that belong to it."""
    digest = stage_digest(*(content[name] for name in ("stage", "version", "parameters", "inputs")))
    unsealed = {name: value for name, value in content.items() if name != "checksum"} | {"digest": digest}
    return {**unsealed, "checksum": hashlib.sha256(canonical_json(unsealed)).hexdigest()}


def made_from(manifest: Manifest, lying: str, of: str) -> dict[str, Any]:
    """Return what a manifest would say if the lying artifact were its input in place of another."""
    inputs = {role: lying if digest == of else digest for role, digest in manifest.inputs.items()}
    return sealed({**manifest.model_dump(mode="json"), "inputs": inputs})


@contextmanager
def published(store: Store, content: dict[str, Any], payload_of: str) -> Iterator[str]:
    """Lay an artifact with another one's payload into the store, for a while; give its digest."""
    folder, like = (Path(store.artifact_uri(digest)) for digest in (content["digest"], payload_of))
    before = (folder / "manifest.json").read_bytes() if folder.exists() else None
    if before is None:
        shutil.copytree(like, folder)
    (folder / "manifest.json").write_text(json.dumps(content))
    try:
        yield content["digest"]
    finally:
        if before is None:
            shutil.rmtree(folder)
        else:
            (folder / "manifest.json").write_bytes(before)


@fuzz
@given(data=st.data())
def test_lying_manifests(made: tuple[Store, dict[str, Manifest]], data: st.DataObject) -> None:
    store, manifests = made
    stage = data.draw(st.sampled_from(sorted(manifests)))
    manifest, dataset = manifests[stage], manifests["dataset"]
    part = data.draw(st.sampled_from(["metrics", "files", "parameters", "inputs"]))
    whole = manifest.model_dump(mode="json")
    others = {role: each.digest for role, each in manifests.items()}
    known = [whole[part]] if part != "inputs" else [whole[part], others, {**whole[part], **others}]
    try:
        lying = sealed({**whole, part: json.loads(data.draw(damaged_json(known)))})
        user = lying if stage == "dataset" else made_from(dataset, lying["digest"], of=manifest.digest)
        json.dumps(lying).encode()
    except (ValueError, TypeError, RecursionError, AttributeError):
        return

    def read_all(digest: str, images: str, pixel: type[Pixel]) -> None:
        images_and_labels(store, stored_parts(store, digest), image_shape(store, images), pixel)

    def read(digest: str) -> None:
        refused_in_a_line(lambda: card_markdown(card_of(store, digest)))
        refused_in_a_line(lambda: lineage_text(lineage(store, digest)))
        refused_in_a_line(lambda: remaking_command(store, data_set_manifest(store, digest)))
        refused_in_a_line(lambda: list(stored_tables(store, digest)))
        refused_in_a_line(lambda: read_all(digest, digest, np.uint8))
        refused_in_a_line(lambda: read_all(digest, manifests["images"].digest, np.float32))

    with published(store, lying, payload_of=manifest.digest) as digest:
        read(digest)
        with published(store, user, payload_of=dataset.digest) as using:
            read(using)


PLAN_STAGES = [
    Stage(kind="images", title="i", parameters={"identity": {"bundled": "digits"}}).model_dump(mode="json"),
    Stage(kind="report", title="r", parameters={"a": 1}, inputs={"images": "b" * 64}).model_dump(mode="json"),
]


@fuzz
@given(text=damaged_json([PLAN_STAGES]))
def test_plans(place: Store, text: str) -> None:
    place.put(plan_path(place, "damaged"), text.encode(errors="surrogatepass"))
    for stage in read_plan(place, "damaged") or ():
        assert re.fullmatch("[0-9a-f]{64}", stage.digest)


ROW: dict[str, Any] = {
    "recipe": "d_rand", "summary": "s", "seeds": [0], "test_accuracy": 0.5, "ci95": [0.4, 0.6],
    "ci95_over": "seeds", "test_accuracies": [0.5], "chance": 0.1, "attack_success": None, "train_size": 5,
    "wrong_label_share": 0.9, "mean_perturbation_norm": 0.5, "source_accuracy": 0.9, "published": None,
    "teaches": True, "claim": "c", "verdict": "reproduced", "axes": {"eps": 0.5},
    "cost": {"seconds": 1, "core_hours": 1, "bytes": 1},
}  # fmt: skip


@fuzz
@given(text=damaged_json([[ROW, ROW]]))
def test_rows_of_reports(place: Store, text: str) -> None:
    content = text.encode(errors="surrogatepass")
    stage = Stage(kind="report", title="r", parameters={"of": hashlib.sha256(content).hexdigest()})

    def build(folder: Path) -> dict[str, Any]:
        (folder / "rows.json").write_bytes(content)
        return {}

    digest = place.write_stage(stage, build).digest
    refused_in_a_line(lambda: read_rows(place, digest))
    place.delete([f"{place.root}/artifacts/{digest}/manifest.json"])
