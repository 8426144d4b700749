"""``python -m deployments``: write a line for each recipe and work pool into ``prefect.yaml``."""

import re
from pathlib import Path

from advfeat.cluster.services import deployment_name
from advfeat.recipes import BUILT_IN, RECIPES

PREFECT_FILE = Path(__file__).parent / "prefect.yaml"
_LINES = re.compile(r"(?:^  - <<: \[\*grid, \*(\w+)\]\n(?:    .*\n)+)+", re.MULTILINE)


def with_all_recipes(text: str) -> str:
    """Return the file with the recipes that there are in place of those that it names, pool by pool."""

    def lines(match: re.Match[str]) -> str:
        return "".join(_deployment(name, match[1]) for name in BUILT_IN)

    return _LINES.sub(lines, text)


def _deployment(recipe: str, pool: str) -> str:
    return (
        f"  - <<: [*grid, *{pool}]\n"
        f"    name: {deployment_name(recipe, pool)}\n"
        f"    tags: [{RECIPES[recipe].purpose}, advfeat, {recipe}]\n"
        f"    entrypoint: advfeat.flows.recipes.{recipe}\n"
    )


if __name__ == "__main__":
    PREFECT_FILE.write_text(with_all_recipes(PREFECT_FILE.read_text(encoding="utf-8")), encoding="utf-8")
