"""Hugging Face's image layout: Parquet with PNG, and features that ``datasets`` reads from its metadata."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from advfeat.export.pixels import png
from advfeat.export.split import Split
from advfeat.files.tables import write_table


def write_hugging_face(split: Split, folder: Path) -> Iterator[None]:
    """Write a Parquet file a piece; ``image`` becomes an ``Image``, ``label`` a ``ClassLabel``."""
    (folder / split.name).mkdir()
    for piece in split.pieces:
        pictures = [{"bytes": png(image), "path": f"{name}.png"} for name, image, _ in piece.records]
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        table = piece.columns.add_column(0, "image", pa.array(pictures, kind))
        features = json.dumps({"info": {"features": _features(piece.columns.schema, split.classes)}})
        write_table(
            table.replace_schema_metadata({"huggingface": features}),
            folder / split.file_name(piece.number, "parquet"),
        )
        yield


def dataset_info(columns: pa.Schema, classes: Sequence[str]) -> dict[str, Any]:
    """Say in the words of a card's front matter what ``image``, and the columns beside it, hold."""
    features = _features(columns, classes).items()
    return {"dataset_info": {"features": [{"name": name, **_in_yaml(feature)} for name, feature in features]}}


def _in_yaml(feature: dict[str, Any]) -> dict[str, Any]:
    match feature["_type"]:
        case "Image":
            return {"dtype": "image"}
        case "ClassLabel":
            names = {str(label): name for label, name in enumerate(feature["names"])}
            return {"dtype": {"class_label": {"names": names}}}
        case "Sequence":
            # Releases of datasets before 4 do not know it as a list.
            return {"sequence": feature["feature"]["dtype"], "length": feature["length"]}
        case _:
            return {"dtype": feature["dtype"]}


def _features(columns: pa.Schema, classes: Sequence[str]) -> dict[str, Any]:
    features: dict[str, Any] = {field.name: _feature(field.type) for field in columns}
    features["label"] = {"names": list(classes), "_type": "ClassLabel"}
    return {"image": {"_type": "Image"}, **features}


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_fixed_size_list(kind):
        # Under this name releases of datasets before and after 4 read it.
        return {"feature": _feature(kind.value_type), "length": kind.list_size, "_type": "Sequence"}
    return {"dtype": {"float": "float32"}.get(str(kind), str(kind)), "_type": "Value"}
