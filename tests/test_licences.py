"""No dependency binds this project, or those who use it, unless a reason is given and shown."""

import pytest

from audit.dependencies import REPOSITORY, direct, for_development, for_use
from audit.licences import licence, needs_reason, reason


def test_every_dependency_is_free_or_accepted_for_a_reason() -> None:
    packages = for_use() | for_development()
    assert {"torch", "prefect", "ray", "pytest"} <= set(packages)
    unexplained = {
        name: stated
        for name, package in packages.items()
        if needs_reason(stated := licence(package)) and reason(name) is None
    }
    assert unexplained == {}


def test_the_list_shows_what_the_project_asks_for() -> None:
    page = (REPOSITORY / "docs/licences.md").read_text()
    assert [name for name in direct() if f"| {name} | " not in page] == [], "make audit writes the list anew"


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("MIT OR Apache-2.0", False),
        ("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", False),
        ("Mozilla Public License 2.0 (MPL 2.0)", False),
        ("GPL-3.0", True),
        ("AGPL-3.0-or-later", True),
        ("MIT License, GNU General Public License v2 or later (GPLv2+)", True),
        ("LicenseRef-NVIDIA-Proprietary", True),
        ("see the file", True),
        (None, True),
    ],
)
def test_which_licences_need_a_reason(stated: str | None, expected: bool) -> None:
    assert needs_reason(stated) == expected
