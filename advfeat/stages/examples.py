"""Images of a data set for a report to show."""

import numpy as np
import pyarrow as pa

from advfeat.datasets.stored_rows import stored_tables
from advfeat.files.tables import image_array, int_array
from advfeat.recipes import RECIPES
from advfeat.report.figures import magnified, picture, thinned
from advfeat.report.html import Example
from advfeat.stages.dataset import originals_request
from advfeat.stages.images import read_classes
from advfeat.storage import Store

EXAMPLES = 8
_NEIGHBOURS = 2
"""Of these stand beside each other: each place costs reading a file of the data set."""
_WITHOUT_LABEL = {"noise": "none, noise", "unknown": "unknown"}


def examples(store: Store, dataset: str, number: int = EXAMPLES) -> list[Example]:
    """Read a few images of a data set, ``number`` or fewer, spread over it, and what was done to them."""
    manifest = store.manifest(dataset)
    made_from = RECIPES[manifest.parameters["recipe"]].originals
    classes = read_classes(store, manifest.inputs["images"])
    own_classes = read_classes(store, manifest.inputs.get("other_images", manifest.inputs["images"]))
    size = manifest.metrics["train_size"]
    spread = np.linspace(0, size - 1, number // _NEIGHBOURS + 2).astype(int)[1:-1]
    table = pa.concat_tables(
        table
        for place in np.unique(spread // _NEIGHBOURS) * _NEIGHBOURS
        for table in stored_tables(store, dataset, rows=range(place, min(place + _NEIGHBOURS, size)))
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
        perturbation, factor = magnified(thinned(image - original))
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
