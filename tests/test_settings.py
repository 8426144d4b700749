"""Settings are read as they are meant, from files, assignments and Python alike, or refused in one line."""

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advfeat.errors import InputError
from advfeat.flows.python_api import _assignments
from advfeat.planning import Experiment, load_experiment, load_grid
from advfeat.planning.grid import points

FRACTION = st.tuples(st.integers(1, 254), st.just(255))


def in_yaml(text: str, folder: Path) -> Experiment:
    (folder / "e.yml").write_text(f"attack: {{norm: linf, eps: {text}}}\n", encoding="utf-8")
    return load_experiment(str(folder / "e.yml"))


def in_json(text: str, folder: Path) -> Experiment:
    (folder / "e.JSON").write_text(json.dumps({"attack": {"norm": "linf", "eps": text}}, indent="\t"))
    return load_experiment(str(folder / "e.JSON"))


def on_command_line(text: str, _: Path) -> Experiment:
    return load_experiment("digits", ["attack.norm=linf", f"attack.eps={text}"])


def in_python(text: str, _: Path) -> Experiment:
    given = {"attack.norm": "linf", "attack.eps": Fraction(text.replace(" ", ""))}
    return load_experiment("digits", _assignments(given))


def as_axis(text: str, _: Path) -> Experiment:
    return points("d_rand", load_grid("d_rand", ["norm=linf", f"eps={text}", "seeds=0"]))[0].experiment


def in_settings_of_a_form(text: str, _: Path) -> Experiment:
    form = load_grid("d_rand", [f'settings=["attack.norm=linf", "attack.eps={text}"]', "seeds=0"])
    return points("d_rand", form)[0].experiment


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


@pytest.mark.parametrize(
    "read", [in_yaml, in_json, on_command_line, in_python, as_axis, in_settings_of_a_form]
)
@settings(max_examples=5)
@given(FRACTION, st.sampled_from(["{}/{}", "{} / {}", "{}/{}.0"]))
def test_a_fraction_is_the_number_that_it_is_worth(
    read: Any, folder: Path, fraction: tuple[int, int], form: str
) -> None:
    if read is in_python:
        form = "{}/{}"
    attack = read(form.format(*fraction), folder).attack
    assert attack == on_command_line(repr(fraction[0] / fraction[1]), folder).attack


def test_a_report_does_not_know_how_a_fraction_was_written() -> None:
    written, worth = (
        load_experiment("digits", [f"only={{d_rand: {{attack: {{eps: {eps}}}}}}}"]) for eps in ("1/4", 0.25)
    )
    assert written.described() == worth.described()


@pytest.mark.parametrize("value", [Fraction(1, 4), Decimal("0.25"), 0.25, "1/4"])
def test_numbers_of_python_are_numbers(value: object) -> None:
    assert load_experiment("digits", _assignments({"attack.eps": value})).attack.eps == 0.25


@pytest.mark.parametrize(
    ("text", "read"),
    [("0400", 400), ("1e3", 1000), ("1_000", 1000), ("8/2", 4), ("+7", 7)],
)
def test_a_whole_number_is_decimal(text: str, read: int) -> None:
    assert load_experiment("digits", [f"attack.steps={text}"]).attack.steps == read


@pytest.mark.parametrize("text", ["1e-3", "1E-3", ".001", "0.001", "1.0e-3", "1/1000"])
def test_a_small_number_is_one(text: str) -> None:
    assert load_experiment("digits", [f"only={{d_rand: {{attack: {{eps: {text}}}}}}}"]).only == {
        "d_rand": {"attack": {"eps": 0.001}}
    }


def test_a_size_that_the_images_cannot_have_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"data\.image_size: 16 is for pictures .* digits has a size of its own"
    ):
        load_experiment("digits", ["data.image_size=16"])


NO_NUMBERS = ["true", "yes", "on", "false", "12:30", "1:30:00", "0x10", "0o17", "2020-01-01", "8/0", "a/b"]


@pytest.mark.parametrize("field", ["attack.eps", "attack.steps", "leakage_eps", "data.test_fraction"])
@pytest.mark.parametrize("text", [*NO_NUMBERS, ".inf", ".nan", "[1]", "{a: 1}"])
def test_what_is_no_number_is_refused(field: str, text: str) -> None:
    with pytest.raises(InputError, match=f"^{field}: .* is (no|not|less|in)"):
        load_experiment("digits", [f"{field}={text}"])


@pytest.mark.parametrize("setting", ["seeds=[0, true]", "seeds=[1:30]", "evaluation.further_eps=[true]"])
def test_lists_hold_numbers_too(setting: str) -> None:
    attacked = "evaluation.attack={eps: 1, steps: 1}"
    with pytest.raises(InputError, match=r"not a whole number|not a number"):
        load_experiment("digits", [attacked, setting])


@pytest.mark.parametrize("axis", ["eps=[true]", "steps=[on]", "seeds=true", "limit=true", "eps=[1:30]"])
def test_axes_hold_numbers_too(axis: str) -> None:
    with pytest.raises(InputError, match=r"not a whole number|not a number"):
        load_grid("d_rand", [axis])


BEYOND = r"is beyond what linf can be, as pixels are in \[0, 1\]; did you mean 8/255\?"
IN_LINF = "norm: linf, steps: 2"


@pytest.mark.parametrize(
    "assignment",
    [
        f"attack={{{IN_LINF}, eps: 8}}",
        f"attack={{{IN_LINF}, eps: 8/255, step_size: 8}}",
        f"source.adversarial={{{IN_LINF}, eps: 8}}",
        f"evaluation.attack={{{IN_LINF}, eps: 8}}",
        f"evaluation={{attack: {{{IN_LINF}, eps: 4/255}}, further_eps: [2/255, 8]}}",
        f"only={{d_rand: {{attack: {{{IN_LINF}, eps: 8}}}}}}",
    ],
)
def test_grey_levels_are_no_radius_in_linf(assignment: str) -> None:
    with pytest.raises(InputError, match=BEYOND):
        load_experiment("digits", [assignment])
    assert load_experiment("digits", [assignment.replace("linf", "l2")])


def test_grey_levels_are_no_axis_in_linf() -> None:
    with pytest.raises(InputError, match=BEYOND):
        points("d_rand", load_grid("d_rand", ["norm=linf", "eps=[0.1, 8]"]))


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("e.yaml", "attack: {eps: 1}\nseeds: [0]\nattack:\n  steps: 3\n", "attack .* line 1 and in line 3"),
        ("e.yml", "attack:\n  eps: 1\n  steps: 3\n  'eps': 2\n", "eps .* line 2 and in line 4"),
        ("e.YAML", "only: {d_rand: {shards: 1,\n shards: 2}}", "shards .* line 1 and in line 2"),
        ("e.json", '{"attack": {"eps": 1},\n\t"attack": {"steps": 3}}', "attack .* line 1 and in line 2"),
        ("e.Json", '{"seeds": [{"a": 1,\n\n"a": 2}]}', "a .* line 1 and in line 3"),
    ],
)
def test_a_key_is_given_once(tmp_path: Path, name: str, text: str, lines: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=f"^file: .*{lines}"):
        load_experiment(str(tmp_path / name))


@pytest.mark.parametrize("key", ["1", "on", "null", "1.5", "''", "[a]", "{a: 1}"])
def test_a_key_is_a_text(tmp_path: Path, key: str) -> None:
    (tmp_path / "e.yaml").write_text(f"{key}: 1\nseeds: [0]\n")
    with pytest.raises(InputError, match=r"does not exist|cannot be read"):
        load_experiment(str(tmp_path / "e.yaml"))


@pytest.mark.parametrize(("text", "read"), [("!!int '01'", 1), ("!!float '1e-1'", 0.1), ("!!str 0.5", 0.5)])
def test_a_tag_makes_no_other_number(text: str, read: float, tmp_path: Path) -> None:
    assert in_yaml(text, tmp_path).attack.eps == read
    for wrong in ("!!int 0x1", "!!int 1:30", "!!float 1:30", "!!float .inf"):
        with pytest.raises(InputError, match=r"cannot be read|is not finite"):
            in_yaml(wrong, tmp_path)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("epsilon=1", "attack.eps"),
        ("attack.epsilon=1", "eps"),
        ("target.lr=1", "learning_rate"),
        ("train-size=5", "data.train_size"),
        ("Attack.eps=1", "attack"),
        ("attack={epps: 1, steps: 2}", "eps"),
    ],
)
def test_the_field_that_was_meant_is_named(given: str, meant: str) -> None:
    with pytest.raises(InputError, match=rf"did you mean {meant}\?"):
        load_experiment("digits", [given])


def test_dotted_names_in_a_file_are_told_how_they_are_written_there(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text("attack.eps: 1\n")
    with pytest.raises(InputError, match=r"did you mean attack: \{eps: …\}"):
        load_experiment(str(tmp_path / "e.yaml"))


def test_settings_of_python_are_a_dictionary() -> None:
    given: Any = ["attack.eps=1"]
    with pytest.raises(InputError, match=r"settings: .* is not a dictionary"):
        _assignments(given)


@pytest.mark.parametrize("setting", ["seeds=[5]", "recipes=[clean]"])
def test_no_setting_of_a_grid_is_lost(setting: str) -> None:
    form = load_grid("d_rand", ["eps=[0.5, 1]", f"settings={json.dumps([setting])}"])
    with pytest.raises(InputError, match="which the grid sets itself"):
        points("d_rand", form)


def test_an_axis_is_given_once_and_of_assignments_the_last_holds() -> None:
    with pytest.raises(InputError, match="given a second time"):
        load_grid("d_rand", ["eps=0.5", "eps=1"])
    assert load_experiment("digits", ["attack.eps=0.5", "attack.eps=1"]).attack.eps == 1


def test_json_is_read_as_json(tmp_path: Path) -> None:
    content = {"name": "😀 \t/ \\ud83d é", "attack": {"eps": 1e-3}}
    for number, ascii_only in enumerate((True, False)):
        path = tmp_path / f"{number}.json"
        path.write_bytes(b"\xef\xbb\xbf" * number + json.dumps(content, ensure_ascii=ascii_only).encode())
        assert load_experiment(str(path)).name == content["name"]


@pytest.mark.parametrize("name", ["e.toml", "e", "e.yaml.bak"])
def test_a_file_of_another_ending_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("seeds: [0]")
    with pytest.raises(InputError, match=r"give a .yaml, .yml or .json file"):
        load_experiment(str(tmp_path / name))


@pytest.mark.parametrize(
    "text", ["folder:my pics #1", "folder:a: b", "numpy:x{y}", "folder:~", "parquet:*[a] "]
)
def test_a_place_on_the_command_line_is_taken_as_it_is(text: str) -> None:
    assert load_experiment("digits", [f"data.source={text}"]).data.source == text


def test_axes_of_places_are_taken_as_they_are() -> None:
    form: Any = load_grid("imported", ["imported=torch:my set #1"])
    assert form.imported == ("torch:my set #1",)
    assert load_experiment("digits", ["data.root=~"]).data.root == "~"
    assert load_experiment("digits", ["data.root=null"]).data.root is None
    assert load_experiment("digits", _assignments({"data.root": Path("a #b")})).data.root == "a #b"
