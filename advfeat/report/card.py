"""A data set's card as Markdown, with the front matter that Hugging Face reads."""

import html
from collections.abc import Mapping
from typing import Any

import yaml

from advfeat.datasets.card import Card
from advfeat.datasets.lineage import lineage_text
from advfeat.report.html import templates

_SIZES = {"n<1K": 1e3, "1K<n<10K": 1e4, "10K<n<100K": 1e5, "100K<n<1M": 1e6, "1M<n<10M": 1e7}
_LARGER = "10M<n<100M"


def card_markdown(
    card: Card,
    files: str | None = None,
    loading: str | None = None,
    front_matter: Mapping[str, Any] | None = None,
) -> str:
    """Write a card; of an export with the files of each split (a pattern) and Python that loads it.

    ``front_matter`` follows what every card says there.
    """
    environment = templates()
    environment.filters["cell"] = _cell
    parameters = {**card.parameters, **{model.role: model.training for model in card.models}}
    front = {**_front_matter(card, files), **(front_matter or {})}
    return environment.get_template("card.md").render(
        card=card,
        front_matter=yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip(),
        parameters=yaml.safe_dump(parameters, sort_keys=False, allow_unicode=True).strip(),
        lineage=lineage_text({link.digest: link for link in card.made_from}),
        loading=loading,
    )


def _front_matter(card: Card, files: str | None) -> dict[str, Any]:
    licences = card.licences
    content: dict[str, Any] = {
        "pretty_name": card.title,
        "license": licences[0] if len(licences) == 1 else licences,
        "task_categories": ["image-classification"],
        "size_categories": [_size(sum(card.splits.values()))],
        "tags": ["advfeat", *(["adversarial"] if card.attack_success is not None else [])],
    }
    if files is not None:
        parts = [{"split": split, "path": f"{split}/{files}"} for split in card.splits]
        content["configs"] = [{"config_name": "default", "data_files": parts}]
    return content


def _size(rows: int) -> str:
    return next((name for name, limit in _SIZES.items() if rows < limit), _LARGER)


def _cell(value: object) -> str:
    """Write a value so that it stays within its cell of a table, whatever it holds."""
    words = "".join(each if each.isprintable() else " " for each in str(value)).split()
    return html.escape(" ".join(words)).replace("|", "&#124;")
