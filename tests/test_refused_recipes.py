"""Recipes of the user's own that cannot be used are refused in a line, by the plan where it can be known."""

from pathlib import Path

import pytest

from advfeat.errors import InputError
from advfeat.planning import load_experiment
from advfeat.planning.forms import GRIDS
from advfeat.recipes import recipe_named
from tests.own_recipes import BRIGHTER, LABELS, MADE, MIRRORED, changed, plan, written

REFUSED = [
    ("mirrored.py", "", "has no recipe RECIPE; write RECIPE = Recipe\\(name='mirrored'"),
    ("mirrored.py", "def f(:\n", "cannot be run: SyntaxError.*line 1"),
    ("mirrored.py", "import nowhere_at_all\n", r"ModuleNotFoundError.*\(mirrored.py, line 1\)"),
    ("clean.py", changed('"mirrored"', '"clean"'), "has the name of a recipe of advfeat"),
    ("other.py", MIRRORED, "calls its recipe 'mirrored'; name it 'other'"),
    ("Mirrored.py", MIRRORED, "is not a recipe's name"),
    ("mirrored.py", changed("default=1, ", ""), "has no default for its setting share"),
    ("mirrored.py", changed("note: str", "seeds: str"), "has a setting seeds, which is another one"),
    ("mirrored.py", changed("settings=Settings", "settings=dict"), "has settings of"),
    (
        "mirrored.py",
        changed(LABELS, "given.labels / 2"),
        r"relabel returns float64, not whole numbers \(mirrored.py, line 20\)",
    ),
    ("mirrored.py", changed(LABELS, "given.labels[1:]"), "relabel returns 63 labels, not one for each of 64"),
    ("mirrored.py", changed(LABELS, "given.labels + 1"), "the label 10, which is not one of 0 to 9"),
    ("mirrored.py", changed(LABELS, "given.labels - 2"), "the label -2, which is not one of 0 to 9"),
    ("mirrored.py", changed(LABELS, "list(given.labels)"), "relabel returns list, not an array"),
    ("mirrored.py", changed(LABELS, "given.labelz"), r"AttributeError.*\(mirrored.py, line 22\)"),
    ("mirrored.py", changed(LABELS, "given.predictions()"), "asks for a source model's probabilities"),
    (
        "mirrored.py",
        changed(LABELS, "np.random.randint(0, 10, len(given.labels))"),
        "differently a second time; draw only from given.rng",
    ),
    ("brighter.py", changed(MADE, "making.originals + 9", BRIGHTER), r"pixels that are not in \[0, 1\]"),
    ("brighter.py", changed(MADE, "1 - making.originals", BRIGHTER), "in l2, further than eps 1.5"),
    ("brighter.py", changed(MADE, "making.originals[1:]", BRIGHTER), "images of 3 x 1 x 8 x 8, not 4 x 1"),
    ("brighter.py", changed(MADE, "making.originals.double()", BRIGHTER), "float64, not a tensor of float32"),
    (
        "brighter.py",
        changed('    source="weak_source",\n', "", BRIGHTER),
        "has attacks, and names no source",
    ),
    (
        "brighter.py",
        changed(MADE, "making.originals.lerp(making.originals.clone().uniform_(), 0.1)", BRIGHTER),
        "a second time; draw only from making.seed",
    ),
    (
        "brighter.py",
        changed(MADE, "drawn(making)", BRIGHTER)
        + """
import torch
def drawn(making):
    rng = torch.Generator().manual_seed(making.seed)
    return (making.originals + 0.01 * torch.rand(making.originals.shape, generator=rng)).clamp(0, 1)
""",
        "makes other images of the same rows where it is given fewer",
    ),
    ("mirrored.py", changed("import numpy as np", "import sys; sys.exit()"), "SystemExit.*line 4"),
    ("mirrored.py", changed(LABELS, "exit(3)"), "fails: SystemExit: 3.*line 22"),
    ("mirrored.py", changed("note: str", "rows: str"), "has a setting rows, a name that is taken"),
    ("mirrored.py", changed("note: str", "copy: str"), "has a setting copy, a name that is taken"),
    ("mirrored.py", changed("note: str", "described: str"), "has a setting or a method described"),
    (
        "mirrored.py",
        changed('"a text"', '"a text", alias="words"'),
        "has an alias of",
    ),
    (
        "mirrored.py",
        changed("axes=(", "source='sauce', axes=("),
        "source of 'sauce'; choose from None, 'source'",
    ),
    ("mirrored.py", changed("axes=(", "learner='net', axes=("), "learner of 'net'; choose from 'network'"),
    ("mirrored.py", changed("axes=(", "originals='noise', axes=("), "without drawn"),
    ("mirrored.py", changed("axes=(", "soft_labels=True, axes=("), "has soft_labels, and names no source"),
    (
        "mirrored.py",
        changed("axes=(", "attacks=True, source='source', axes=("),
        "attacks, and makes no images",
    ),
    (
        "mirrored.py",
        changed("axes=(", "dataset_of='none', axes=("),
        "data set of 'none', which is not a recipe",
    ),
    ("mirrored.py", changed("axes=(", "dataset_of='d_rand', axes=("), "whose source is 'source'"),
    (
        "mirrored.py",
        changed('Claim(teaches=False, because="the labels are never right")', '"no"'),
        "claim of 'no'",
    ),
    ("mirrored.py", changed('f"{100 * settings.share:.0f} % mirrored"', "3"), "returns 3, not a text"),
    ("mirrored.py", changed("under the", "under\\nthe"), "write it in one line"),
]


@pytest.mark.parametrize(("file", "text", "told"), REFUSED)
def test_what_cannot_be_used_is_refused_by_the_plan(file: str, text: str, told: str, tmp_path: Path) -> None:
    path = written(tmp_path / file, text)
    with pytest.raises(InputError, match=told):
        plan(path)


def test_axes_that_would_take_the_place_of_others_are_refused(tmp_path: Path) -> None:
    for name, field, told in (
        ("seeds", "share", "has an axis 'seeds', and so has its grid"),
        ("target_epochs", "share", "has an axis 'target_epochs', and so has its grid"),
        ("my share", "share", "which is not a name"),
        ("share", "seeds", "which is not a single number or text"),
    ):
        text = changed('"share", "share"', f'"{name}", "{field}"')
        identity = recipe_named(str(written(tmp_path / "mirrored.py", text))).identity
        with pytest.raises(InputError, match=told):
            _ = GRIDS[identity]


def test_settings_alike_but_for_what_checks_them_do_not_stand_in_one_run(tmp_path: Path) -> None:
    first = written(tmp_path / "mirrored.py", MIRRORED)
    validator = """
    @field_validator("note")
    @classmethod
    def _shout(cls, note: str) -> str:
        return note.upper()


def relabel"""
    text = changed("def relabel", validator.lstrip("\n"), changed("mirrored", "tilted")).replace(
        "from pydantic import ", "from pydantic import field_validator, "
    )
    text = text.replace("share", "tilt")
    other = written(tmp_path / "tilted.py", text)
    with pytest.raises(InputError, match="has a setting note, which is another one of"):
        plan(first, other)


@pytest.mark.parametrize("recipes", ["1e999", "5", "true", "clean", "{a: 1}", "[[clean]]", "[{}]", "[5]"])
def test_recipes_that_are_no_list_of_names_are_told(recipes: str) -> None:
    with pytest.raises(InputError, match=r"^recipes: "):
        load_experiment("digits", [f"recipes={recipes}"])
