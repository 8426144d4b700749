"""``python -m deployments``: write a line for each recipe and work pool into ``prefect.yaml``."""

import re
from pathlib import Path

from advfeat.recipes import BUILT_IN

PREFECT_FILE = Path(__file__).parent / "prefect.yaml"
_LINES = re.compile(r"(?:^  - \{<<: \[\*grid, \*(\w+)\], entrypoint: [\w.]+\}\n)+", re.MULTILINE)


def with_all_recipes(text: str) -> str:
    """Return the file with the recipes that there are in place of those that it names, pool by pool."""

    def lines(match: re.Match[str]) -> str:
        return "".join(
            f"  - {{<<: [*grid, *{match[1]}], entrypoint: advfeat.flows.recipes.{name}}}\n"
            for name in BUILT_IN
        )

    return _LINES.sub(lines, text)


if __name__ == "__main__":
    PREFECT_FILE.write_text(with_all_recipes(PREFECT_FILE.read_text(encoding="utf-8")), encoding="utf-8")
