"""``python -m website``: build the site in ``site/``; a link that leads nowhere ends it with an error."""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from website.command_line import command_line_page
from website.fields import axes_page, fields_page
from website.library import library_page, module_page, modules
from website.links import problems
from website.notebooks import write_notebook_pages
from website.pages import copy_written
from website.recipes import TABLE_MARK, navigation, table_of_recipes

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGURATION = "zensical.toml"


def build(site: Path) -> int:
    """Build the site in a folder, anew; return 1 if anything in it leads nowhere, else 0."""
    with TemporaryDirectory(prefix="advfeat-site-") as name:
        folder = Path(name)
        configuration = navigation((REPOSITORY / CONFIGURATION).read_text(encoding="utf-8"))
        (folder / CONFIGURATION).write_text(configuration, encoding="utf-8")
        lay_out(folder / "pages")
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file"]
        if subprocess.run([*command, folder / CONFIGURATION], cwd=REPOSITORY, check=False).returncode:
            return 1
        shutil.rmtree(site, ignore_errors=True)
        shutil.move(folder / "site", site)
    wrong = list(problems(site.resolve()))
    for problem in wrong:
        print(problem, file=sys.stderr)
    return 1 if wrong else 0


def lay_out(pages: Path) -> None:
    """Write all pages, in Markdown: those written by hand, and those made of the code."""
    copy_written(REPOSITORY, pages)
    write_notebook_pages(pages)
    generated = {file.with_suffix(".md"): module_page(file) for file in modules(REPOSITORY)}
    generated |= {
        Path("flows/command_line/cli.md"): command_line_page(),
        Path("advfeat/spec.md"): fields_page(),
        Path("advfeat/planning/forms.md"): axes_page(),
        Path("advfeat/README.md"): library_page(REPOSITORY),
    }
    index = Path("docs/recipes/README.md")
    generated[index] = (pages / index).read_text(encoding="utf-8").replace(TABLE_MARK, table_of_recipes())
    for file, text in generated.items():
        page = pages / file
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(build(REPOSITORY / "site"))
