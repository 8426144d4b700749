"""Images of a data set for a report to show."""

import numpy as np
import pyarrow as pa

from advfeat.datasets.stored_rows import stored_tables
from advfeat.files.tables import image_array, int_array
from advfeat.recipes import RECIPES
from advfeat.report.figures import magnified, picture
from advfeat.report.html import Example
from advfeat.stages.dataset import originals_request
from advfeat.stages.images import read_classes
from advfeat.storage import Store

_EXAMPLES = 4
_WITHOUT_LABEL = {"noise": "none, noise", "unknown": "unknown"}


def examples(store: Store, dataset: str) -> list[Example]:
    """Read a few images of a data set, spread over it, and what was done to them."""
    manifest = store.manifest(dataset)
    made_from = RECIPES[manifest.parameters["recipe"]].originals
    classes = read_classes(store, manifest.inputs["images"])
    own_classes = read_classes(store, manifest.inputs.get("other_images", manifest.inputs["images"]))
    spread = np.linspace(0, manifest.metrics["train_size"] - 1, _EXAMPLES + 2).astype(int)[1:-1]
    table = pa.concat_tables(
        table
        for row in np.unique(spread)
        for table in stored_tables(store, dataset, rows=range(row, row + 1))
    )
    originals = images = image_array(table, np.float32)
    if made_from != "unknown":
        request = originals_request(manifest.parameters, manifest.inputs, store)
        originals = request.originals(int_array(table, "index")).numpy()
    found = []
    for original, image, label, own_label in zip(
        originals,
        images,
        int_array(table, "label"),
        table.column("original_label").to_pylist(),
        strict=True,
    ):
        perturbation, factor = magnified(image - original)
        found.append(
            Example(
                original=picture(original),
                perturbation=picture(perturbation) if (image != original).any() else None,
                magnification=factor,
                adversarial=picture(image),
                original_label=_WITHOUT_LABEL.get(made_from) or own_classes[own_label],
                label=classes[label],
            )
        )
    return found
