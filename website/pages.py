"""The pages that a person wrote, copied to where the site is built from.

The copy keeps the repository's folders, so that a link which is right there is right on the site; only links
to source files and notebooks lead to the pages that are made of them.
"""

import re
import shutil
from pathlib import Path

WRITTEN = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "deployments/runbook.md",
    "benchmarks/results/*.md",
)
STYLE = "website/style.css"
_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#]+)(?=[)#])")


def written_pages(repository: Path) -> list[Path]:
    """List the Markdown that is written by hand, relative to the repository."""
    patterns = (*WRITTEN, "docs/**/*.md")
    return sorted(page.relative_to(repository) for name in patterns for page in repository.glob(name))


def copy_written(repository: Path, pages: Path) -> None:
    """Copy the written pages, all else in ``docs/`` and the files that they link to."""
    shutil.copytree(repository / "docs", pages / "docs", dirs_exist_ok=True)
    _copy(repository / STYLE, pages / STYLE)
    for page in written_pages(repository):
        text = (repository / page).read_text(encoding="utf-8")
        for target in _LINK.findall(text):
            file = (repository / page.parent / target).resolve()
            if file.suffix not in {".md", ".py"} and file.is_file():
                _copy(file, pages / file.relative_to(repository.resolve()))
        written = pages / page
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(_LINK.sub(_page_of, text), encoding="utf-8")


def _page_of(link: re.Match[str]) -> str:
    """Return the page that is made of a source file or a notebook; other targets as they are."""
    return re.sub(r"\.(py|ipynb)$", ".md", link[0])


def _copy(file: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, copy)
