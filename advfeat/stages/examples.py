"""Images of a data set for a report to show."""

from collections.abc import Sequence

import numpy as np

from advfeat.data.images import LabelledImages
from advfeat.report.figures import magnified, picture
from advfeat.report.html import Example
from advfeat.store import Store
from advfeat.tables import image_array, int_array, read_table

_EXAMPLES = 4


def examples(store: Store, dataset: str, originals: LabelledImages, classes: Sequence[str]) -> list[Example]:
    """Read a few images of a data set, spread over it, and what was done to them."""
    table = read_table(store.read(dataset, "train.parquet"))
    spread = np.linspace(0, table.num_rows - 1, _EXAMPLES + 2).astype(int)[1:-1]
    table = table.take(np.unique(spread))
    found = []
    for index, image, label, true_label in zip(
        int_array(table, "index"),
        image_array(table, np.float32),
        int_array(table, "label"),
        int_array(table, "original_label"),
        strict=True,
    ):
        original = (originals.images[index] / 255).astype(np.float32)
        perturbation, factor = magnified(image - original)
        found.append(
            Example(
                original=picture(original),
                perturbation=picture(perturbation) if (image != original).any() else None,
                magnification=factor,
                adversarial=picture(image),
                original_label=classes[true_label],
                label=classes[label],
            )
        )
    return found
