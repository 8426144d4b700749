"""``advfeat new``: starting files of what a user adds."""

import sys
from importlib import resources
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from advfeat.errors import InputError, first_line

new = typer.Typer(help="Write a commented starter file.", no_args_is_help=True)


@new.command()
def recipe(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="small letters, digits and _, starting with a letter")
    ],
) -> None:
    """Write NAME.py, a working recipe, and test_NAME.py, which tests it in about 20 seconds."""
    from advfeat.recipes import BUILT_IN
    from advfeat.recipes.shared.own import check_name

    check_name(name)
    if name in BUILT_IN:
        raise InputError("name", name, "is a recipe of advfeat", "give yours another name")
    if name in sys.stdlib_module_names:
        problem = "is a module of Python, which its test would import instead"
        raise InputError("name", name, problem, "give yours another name")
    files = {f"{name}.py": "new_recipe.txt", f"test_{name}.py": "new_recipe_test.txt"}
    for file in files:
        if Path(file).exists():
            raise InputError("name", name, f"would overwrite {file}", "give another name, or move the file")
    for file, template in files.items():
        text = resources.files("advfeat.recipes.shared").joinpath(template).read_text(encoding="utf-8")
        try:
            Path(file).write_text(Template(text).substitute(name=name), encoding="utf-8")
        except OSError as error:
            problem = f"{file} cannot be written ({first_line(error)})"
            raise InputError("name", name, problem, "change to a folder of your own") from None
    print(f"{name}.py: the recipe; advfeat run --set 'recipes=[clean, shuffled, {name}.py]'")
    print(f"test_{name}.py: its test; pytest test_{name}.py")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(new, name="new")
