"""The code of docs/datasets.md: what it exports, how that is loaded, and how a network learns from it."""

import re
from pathlib import Path

PAGE = (Path(__file__).parent.parent / "docs" / "datasets.md").read_text()
*LOADING, LEARNING = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
WITH_RAY = next(block for block in LOADING if "import ray" in block)
EXPORTS: list[tuple[str, str, str, str]] = re.findall(
    r"^advfeat export \$(\w+) (\S+) --to (\w+)(?: --precision (\w+))?$", PAGE, re.MULTILINE
)
"""Variable that holds the digest, destination, format and precision, which may be empty."""

UPLOADS: list[str] = re.findall(r"^hf upload .*$", PAGE, re.MULTILINE)
