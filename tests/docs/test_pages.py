"""The pages for readers: links have a target, lines are short, versions agree."""

import re
import tomllib

import pytest

from tests.conftest import ROOT

PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "results" / "README.md",
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text()):
        if link.startswith(("http:", "https:")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_keeps_to_100_columns(page):
    free = ("|", "    ", "![", "<!--")  # tables, code, pictures, markers
    long = [x for x in page.read_text().splitlines() if len(x) > 100 and not x.startswith(free)]
    assert not long


@pytest.mark.parametrize("group", ["model", "model/loss", "data"])
def test_readme_names_every_choice(group):
    choices = {path.stem for path in (ROOT / "conf" / group).glob("[!_]*.yaml")}
    named = re.findall(r"`([^`]*)`", (ROOT / "README.md").read_text())
    absent = choices - {word.rpartition("=")[2] for quoted in named for word in quoted.split()}
    assert not absent


def test_versions_agree():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text()
