"""What users write: experiment files and assignments, damaged."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advfeat.planning import load_experiment
from tests.fuzz.mutation import damaged_bytes, damaged_json
from tests.fuzz.refused import refused_in_a_line
from tests.fuzz.settings import fuzz

EXPERIMENT = b"""preset: digits
name: mine
data: {source: digits, train_size: 100}
source: &training {model: cnn, width: 8, epochs: 2}
target: *training
attack: {norm: l2, eps: 0.5, steps: 5}
recipes: [clean, d_rand]
seeds: [0, 1]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("user")


@fuzz
@given(
    content=damaged_bytes([EXPERIMENT])
    | damaged_json([{"attack": {"eps": 0.5}, "recipes": ["clean"], "seeds": [0], "name": "n"}]).map(
        lambda text: text.encode(errors="surrogatepass")
    )
)
def test_experiment_files(folder: Path, content: bytes) -> None:
    path = folder / "experiment.yaml"
    path.write_bytes(content)
    refused_in_a_line(lambda: load_experiment(str(path)))


@fuzz
@given(
    st.lists(
        damaged_bytes([b"attack.eps=0.5", b"seeds=[0, 1]", b"source={width: 8}"]).map(
            lambda content: content.decode("latin-1")
        )
        | st.text(max_size=30),
        max_size=2,
    )
)
def test_assignments(assignments: list[str]) -> None:
    refused_in_a_line(lambda: load_experiment("digits", assignments))
