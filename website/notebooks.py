"""The pages of the notebooks, with what their cells showed when they were run."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_notebook_pages(pages: Path) -> None:
    """Write a page in Markdown beside each notebook in the site's folder of pages, and its pictures."""
    for file in sorted(pages.glob("docs/notebooks/*.ipynb")):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        parts = [part for number, cell in enumerate(cells) for part in _shown(cell, file, number)]
        parts.insert(1, f"[The notebook itself]({file.name}), to run it.")
        file.with_suffix(".md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _shown(cell: dict[str, Any], file: Path, number: int) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        content = output.get("data", {"text/plain": output.get("text", "")})
        if "image/png" in content:
            picture = file.with_name(f"{file.stem}-{number}.png")
            picture.write_bytes(base64.b64decode(content["image/png"]))
            yield f"![What the cell above draws]({picture.name})"
        elif "text/html" in content:
            # A blank line would end the HTML there.
            yield "\n".join(line for line in "".join(content["text/html"]).splitlines() if line.strip())
        else:
            yield f"```text\n{''.join(content['text/plain']).rstrip()}\n```"
