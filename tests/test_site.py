"""The documentation as a site: everything that a user may set or call is in it, and it needs no network."""

import re
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import expect
from pydantic import BaseModel

from advfeat import spec
from advfeat.flows.command_line.cli import app
from advfeat.planning import Experiment
from advfeat.planning.forms import GRIDS
from advfeat.recipes import RECIPES
from advfeat.spec import Spec
from tests.browser import browser_page, needs_browser
from website.__main__ import REPOSITORY, build
from website.fields import reachable
from website.library import module_name, modules
from website.links import problems
from website.pages import written_pages
from website.recipes import navigation


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` builds it: strictly."""
    folder = tmp_path_factory.mktemp("documentation") / "site"
    assert build(folder) == 0
    return folder


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Where the site is served as CONTRIBUTING says."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=site))
    Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def text(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text())


def test_every_command_and_option_is_there(site: Path) -> None:
    page = text(site / "flows/command_line/cli.html")
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        assert f"advfeat {name}" in page
    for option in ("--set", "--store", "--ray", "--at-once", "--stage-timeout", "--image", "--json"):
        assert option in page


def test_every_field_is_there_with_its_bounds_and_meaning(site: Path) -> None:
    page = site / "advfeat/spec.html"
    shown = text(page)
    for model in reachable(Experiment):
        assert f'id="advfeat.spec.{model.__name__}"' in page.read_text()
        for name, field in model.model_fields.items():
            assert f"<code>{name}</code>" in page.read_text(), f"{model.__name__}.{name}"
            assert field.description is not None
            assert field.description.split(",")[0][:40].replace("&", "&amp;") in shown.replace("&#39;", "'")
    assert "number, &gt;\u00a00, ≤\u00a01,000,000" in shown.replace(" ,", ","), "eps of an attack"
    assert set(reachable(Experiment)) >= {Experiment, spec.TrainSpec, spec.DataSpec, spec.TargetedAttack}
    assert all(issubclass(model, Spec | BaseModel) for model in reachable(Experiment))


def test_every_axis_and_recipe_is_there(site: Path) -> None:
    axes = (site / "advfeat/planning/forms.html").read_text()
    for form in GRIDS.values():
        assert all(f"<code>{name}</code>" in axes for name in form.model_fields)
    recipes = text(site / "docs/recipes/index.html")
    for recipe in RECIPES.values():
        teaches = "teaches" if recipe.claim.teaches else "does not teach"
        assert re.search(rf"^{recipe.name}\n.*\n{teaches}: ", recipes, re.MULTILINE), recipe.name
        if recipe.published is not None and recipe.published.test_accuracy:
            assert f"{100 * recipe.published.test_accuracy:.4g} %" in recipes
            if (robust := recipe.published.robust_accuracy) is not None and recipe.claim.robust is not None:
                assert f"under attack {100 * robust:.4g} %" in recipes


def test_every_module_has_a_page_with_its_docstring(site: Path) -> None:
    library = text(site / "advfeat/index.html")
    for file in modules(REPOSITORY):
        assert (site / file.with_suffix(".html")).is_file()
        assert module_name(file) in library
    assert "adversarial examples for" in text(site / "advfeat/attacks/pgd.html")


def test_what_leads_nowhere_or_to_the_network_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.html").write_text('<p id="here">')
    (tmp_path / "index.html").write_text(
        '<a href="other.html#here"></a> <a href="https://arxiv.org"></a> <a href="other.html#there"></a>'
        '<img src="no.png"> <script src="https://example.org/a.js"></script>'
    )
    assert [problem.split(": ", 1)[1] for problem in problems(tmp_path)] == [
        "other.html#there leads to no place on the page",
        "no.png leads to no file",
        "https://example.org/a.js is on the network",
    ]


def test_every_written_page_is_in_the_navigation() -> None:
    there = navigation((REPOSITORY / "zensical.toml").read_text())
    missing = [str(page) for page in written_pages(REPOSITORY) if f'"{page}"' not in there]
    assert [page for page in missing if not page.startswith("benchmarks/")] == []


@needs_browser
def test_a_reader_finds_pages_in_a_browser_that_has_no_network(address: str) -> None:
    with browser_page(height=900) as page:
        requests: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.on("requestfailed", lambda request: complaints.append(f"{request.url}: {request.failure}"))
        page.on("response", lambda answer: complaints.append(answer.url) if answer.status >= 400 else None)
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))

        page.goto(f"{address}/index.html")
        page.wait_for_load_state("networkidle")  # whoever leaves a page ends what it still fetches
        page.get_by_role("navigation", name="Tabs").get_by_role("link", name="Tutorial").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Tutorial")
        page.wait_for_load_state("networkidle")
        page.get_by_role("link", name="Next").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("own experiment")
        page.wait_for_load_state("networkidle")

        page.get_by_role("button", name="Search").click()
        page.get_by_role("combobox").fill("photo-patches cross_domain")
        page.get_by_role("option").and_(
            page.locator("[href*='docs/recipes/cross_domain.html']")
        ).first.click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("cross_domain")
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    assert complaints == []
