"""What a report says first: which result is the main one, and pictures that are small enough to be sent."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from advfeat.planning import RecipeName
from advfeat.report.figures import magnified, picture, thinned
from advfeat.report.html import Example, render
from advfeat.report.story import main_row, name_of, what_was_done
from tests.test_rows import experiment, row


@pytest.mark.parametrize(
    ("recipes", "main"),
    [
        (["clean", "shuffled", "d_det", "d_rand"], "d_det"),
        (["clean", "mislabeled", "d_rand"], "mislabeled"),
        (["clean", "bugs_only", "shuffled"], "bugs_only"),
        (["clean", "shuffled"], "clean"),
        (["shuffled"], "shuffled"),
    ],
)
def test_the_main_result_is_that_of_the_first_recipe_that_teaches_by_errors(
    recipes: list[RecipeName], main: str
) -> None:
    assert main_row([row(recipe, experiment()) for recipe in recipes]).recipe == main


def test_right_labels_are_no_errors() -> None:
    right = row("robust_features", experiment()).model_copy(update={"wrong_label_share": 0.0})
    assert main_row([right, row("d_det", experiment())]).recipe == "d_det"


def test_what_was_done_is_one_sentence_that_counts() -> None:
    rows = [row("d_rand", experiment()), row("shuffled", experiment())]
    place = f"folder:/home/{'somebody/' * 20}pictures"
    told = what_was_done(rows, place)
    assert "each of these 2 data sets" in told
    assert told.endswith("pictures: 3 seeds.")
    assert len(told) < 200, "of a long place the end is enough"
    assert "only from this data set" in what_was_done(rows[:1], "digits")


def test_a_report_is_called_by_its_own_images() -> None:
    assert name_of({"name": "digits", "data": {"source": "digits"}}) == "digits"
    assert name_of({"name": "mine", "data": {"source": "folder:/pictures"}}) == "mine"
    assert (
        name_of({"name": "digits", "data": {"source": "folder:/pictures"}})
        == "folder:/pictures, preset digits"
    )


def shown(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_small_images_are_shown_to_the_last_bit() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32)).astype(np.float32)
    assert np.array_equal(np.asarray(shown(picture(pixels / np.float32(255)))), pixels.transpose(1, 2, 0))


def test_large_images_are_thinned_out_with_their_perturbation() -> None:
    signs = np.random.default_rng(0).choice([-1, 1], (3, 224, 224)).astype(np.float32)
    perturbation, factor = magnified(thinned(signs * np.float32(4 / 255)))
    assert factor == pytest.approx(0.5 * 255 / 4)
    assert set(np.unique(perturbation)) == {0, 1}, "averages of neighbours would be grey"
    uri = picture(perturbation)
    assert max(shown(uri).size) <= 112
    assert len(uri) < 40_000


def test_data_sets_that_look_the_same_are_shown_once() -> None:
    of = experiment()
    image = picture(np.zeros((1, 8, 8), np.float32))
    example = Example(image, image, 1.0, image, "<i>one</i>", "two")
    rows = [row(recipe, of) for recipe in ("d_rand", "d_det", "transfer")]
    page = render(
        of.model_dump(mode="json"),
        rows,
        {each.recipe: [example] for each in rows},
        {},
        {},
        {},
        ["one", "two"],
    )
    assert "<h3>d_det, transfer</h3>" in page
    assert page.count("true label <b>&lt;i&gt;one&lt;/i&gt;</b>") == 2
