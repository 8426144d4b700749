"""The plan: shared stages once, and a change recomputes what depends on it and nothing else."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from advfeat.planning import Outlook, Plan, build_plan, load_experiment, outlook, with_reasons
from advfeat.storage import Manifest, Store
from advfeat.storage.runs import RunRecord, keep_plan, keep_record
from tests.inline import compute, compute_all

# A plan is explained by manifests alone; what they measured is of no account.
MEASURED = {
    **{"train_size": 1258, "test_size": 539, "image_shape": [1, 8, 8], "classes": ["0", "1"]},
    **{"train_accuracy": 0.5, "test_accuracy": 0.5, "epoch_losses": []},
}


def plan(*assignments: str) -> Plan:
    return build_plan(load_experiment("digits", assignments))


def kinds(a_plan: Plan) -> Counter[str]:
    return Counter(stage.kind for stage in a_plan.stages)


def explained(a_plan: Plan, store: Store) -> list[Outlook]:
    return with_reasons(outlook(a_plan, store), store)


def record_run(a_plan: Plan, store: Store, run: str = "a-run", minute: int = 0) -> None:
    """Note that a run needed these stages, written at a minute of one hour."""
    began = f"2026-01-01T00:{minute:02}:00+00:00"
    keep_plan(store, run, a_plan.stages)
    keep_record(
        store, RunRecord(run=run, flow="learning-from-errors", title="a", state="failed", began=began)
    )
    os.utime(f"{store.root}/runs/{run}.json", (60 * minute, 60 * minute))


class _CountingStore(Store):
    reads = 0

    def find(self, digest: str) -> Manifest | None:
        self.reads += 1
        return super().find(digest)


def changed(before: Plan, after: Plan) -> set[str]:
    """Return the titles of the stages of ``after`` that ``before`` does not have."""
    known = {stage.digest for stage in before.stages}
    return {stage.title for stage in after.stages if stage.digest not in known}


def test_stages_that_recipes_share_appear_once() -> None:
    counts = kinds(plan("seeds=[0,1]"))
    assert counts == {
        "images": 1,
        "source_model": 4,  # a source and a weak source a seed; d_rand and d_det share one
        "shard": 8,
        "dataset": 10,
        "target_model": 10,
        "evaluation": 10,
        "report": 1,
    }


def test_every_stage_comes_after_what_it_needs() -> None:
    seen: set[str] = set()
    for stage in plan().stages:
        assert seen.issuperset(stage.needs), stage.title
        seen.add(stage.digest)


def test_another_eps_makes_new_examples_and_targets_but_no_new_source() -> None:
    changes = changed(plan("seeds=[0]"), plan("seeds=[0]", "attack.eps=1.0"))
    assert changes == {
        "report",
        *(
            f"{what} {recipe}, seed 0{part}"
            for recipe in ("d_rand", "d_det")
            for what, part in (
                ("data set", ""),
                ("data set", ", shard 1 of 2"),
                ("data set", ", shard 2 of 2"),
                ("target model", ""),
                ("evaluation", ""),
            )
        ),
    }


@pytest.mark.parametrize("assignment", ["shards=7", "name=other"])
def test_shards_and_names_change_no_data_set(assignment: str) -> None:
    changes = changed(plan(), plan(assignment))
    assert {title for title in changes if "shard" not in title} <= {"report"}


def test_another_seed_keeps_the_first_ones() -> None:
    assert all(
        "seed 1" in title or title == "report" for title in changed(plan("seeds=[0]"), plan("seeds=[0,1]"))
    )


def test_golden_digests() -> None:
    """A cache must never be lost, or used, by accident: change these only with a stage's version."""
    digests = {stage.title: stage.digest[:16] for stage in plan("seeds=[0]").stages}
    assert digests["source model, seed 0"] == "1867520c62833983"
    assert digests["data set d_det, seed 0"] == "4326e00e723a7782"


def test_outlook_says_what_is_cached_and_why_the_rest_is_not(local_store: Store) -> None:
    small = ("seeds=[0]", "recipes=[d_det]", "data.train_size=256", "attack.steps=2", "source.epochs=1")
    first = plan(*small, "shards=1")
    assert {entry.state for entry in outlook(first, local_store)} == {"compute"}
    for stage in first.stages[:4]:
        compute(stage, local_store)
    record_run(first, local_store)
    states = {entry.stage.title: entry for entry in explained(first, local_store)}
    assert [entry.state for entry in states.values()] == ["cached"] * 4 + ["compute"] * 3
    assert states["evaluation d_det, seed 0"].why == "not in the store yet"

    other = plan(*small, "attack.eps=0.25", "shards=2")
    why = {entry.stage.title: entry.why for entry in explained(other, local_store)}
    assert why["data set d_det, seed 0"] == "new: attack.eps 1.5 → 0.25"
    assert why["data set d_det, seed 0, shard 1 of 2"] == "new: attack.eps 1.5 → 0.25"


def test_reasons_take_no_longer_however_many_runs_a_store_holds(tmp_path: Path) -> None:
    store, small = _CountingStore(tmp_path), ("seeds=[0]", "recipes=[clean]", "shards=1")

    def reads_of_a_plan(runs: Iterable[int]) -> int:
        for epochs in runs:
            made = plan(*small, f"target.epochs={epochs}")
            for stage in made.stages:
                store.write_stage(stage, lambda _: MEASURED)
            record_run(made, store, f"run-{epochs}", minute=epochs)
        store.reads = 0
        entries = explained(plan(*small, "target.epochs=99"), store)
        last = f"new: training.epochs {epochs} → 99"
        assert last in {entry.why for entry in entries}, "compared with the last run"
        return store.reads

    assert reads_of_a_plan(range(1, 25)) == reads_of_a_plan(range(25, 40)) > 0


@pytest.mark.parametrize("assignment", ["attack.eps=0.25", "source.epochs=3", "target.epochs=3"])
def test_what_is_new_is_compared_with_what_the_same_recipe_and_seed_had_before(
    local_store: Store, assignment: str
) -> None:
    small = ("seeds=[0,1]", "shards=1", "attack.eps=1.5", "target.epochs=2")
    before = {stage.title: stage for stage in plan(*small).stages}
    for stage in before.values():
        local_store.write_stage(stage, lambda _: MEASURED)
    record_run(plan(*small), local_store)
    entries = explained(plan(*small, assignment), local_store)
    new = [entry for entry in entries if entry.state == "compute" and entry.stage.kind != "report"]
    assert {entry.stage.kind for entry in new} >= {"target_model", "evaluation"}
    for entry in new:
        earlier = before[entry.stage.title].inputs
        other_inputs = [
            f"another {role}"
            for role, digest in sorted(entry.stage.inputs.items())
            if digest != earlier[role]
        ]
        field = assignment.removeprefix("source.").removeprefix("target.").split("=")[0]
        assert entry.why.endswith(", ".join(other_inputs)), entry.stage.title
        assert entry.why.count("→") == (field in entry.why), entry.stage.title
        assert other_inputs or field in entry.why, entry.stage.title


def test_parts_of_a_data_set_that_is_there_are_not_made_again(local_store: Store) -> None:
    small = ("seeds=[0]", "recipes=[d_rand]", "data.train_size=256", "attack.steps=1", "source.epochs=1")
    compute_all(plan(*small, "shards=1"), local_store)
    entries = outlook(plan(*small, "shards=2"), local_store)
    assert {entry.state for entry in entries} == {"cached"}
    assert "shard" not in {entry.stage.kind for entry in entries}
