"""Digests decide what is cached: they change only when somebody means it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advfeat.digest import canonical_json, derived_seed, stage_digest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_golden_values() -> None:
    parameters = {"eps": 0.5, "norm": "l2", "seeds": [0, 1], "root": None}
    assert canonical_json(parameters) == b'{"eps":0.5,"norm":"l2","root":null,"seeds":[0,1]}'
    digest = stage_digest("dataset", 1, parameters, {"images": "ab"})
    assert digest == "52710bf3763a5dc559015227fa3303bc8bd16c9c7d34516be219c31e362acf74"
    assert derived_seed(0, "source_model") == 6811304132299427638


@given(st.dictionaries(st.text(), JSON))
def test_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    backwards = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(backwards)


@given(st.text(), st.text())
def test_seeds_for_different_purposes_differ(one: str, other: str) -> None:
    assert (derived_seed(0, one) == derived_seed(0, other)) == (one == other)


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"eps": float("nan")})


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "shard"},
        {"version": 2},
        {"parameters": {"eps": 0.25}},
        {"inputs": {"images": "cd"}},
        {"inputs": {"source_model": "ab"}},
    ],
)
def test_each_part_of_the_identity_counts(change: dict[str, object]) -> None:
    identity: dict[str, object] = {
        "stage": "dataset",
        "version": 1,
        "parameters": {"eps": 0.5},
        "inputs": {"images": "ab"},
    }
    assert stage_digest(**identity) != stage_digest(**identity | change)  # type: ignore[arg-type]
