"""What the site says of all recipes, from what each says of itself: their table, and their pages' places."""

from typing import Any

from advfeat.recipes import BUILT_IN, RECIPES, Published, Recipe

TABLE_MARK = "<!-- the table of all recipes -->"
PAGES_MARK = "      # the page of each recipe\n"


def page_of(recipe: str) -> str:
    """Return the name of a recipe's page in ``docs/recipes/``."""
    return RECIPES[recipe].page or recipe


def table_of_recipes() -> str:
    """Return a row a recipe, in Markdown, for ``docs/recipes/README.md``."""
    head = (
        "| recipe | what the target model learns from | claim | control | published | page |\n"
        "|---|---|---|---|---|---|\n"
    )
    return head + "".join(_row(recipe) for recipe in RECIPES.values())


def navigation(configuration: str) -> str:
    """Return the configuration of the site with the page of each recipe in its navigation."""
    assert PAGES_MARK in configuration
    pages = dict.fromkeys(page_of(name) for name in BUILT_IN)
    return configuration.replace(
        PAGES_MARK, "".join(f'      "docs/recipes/{page}.md",\n' for page in sorted(pages))
    )


def _row(recipe: Recipe[Any]) -> str:
    claim = f"{'teaches' if recipe.claim.teaches else 'does not teach'}: {recipe.claim.because}"
    control = f"`{recipe.control}`" if recipe.control else "its own"
    page = "of its own" if recipe.own else f"[{page_of(recipe.name)}]({page_of(recipe.name)}.md)"
    cells = (f"`{recipe.name}`", recipe.summary, claim, control, _published(recipe.published), page)
    return f"| {' | '.join(cells)} |\n"


def _published(figure: Published | None) -> str:
    if figure is None:
        return "none"
    robust = "" if figure.robust_accuracy is None else f", under attack {100 * figure.robust_accuracy:.4g} %"
    return f"{100 * figure.test_accuracy:.4g} %{robust}, {figure.setting.partition(',')[0]}"
