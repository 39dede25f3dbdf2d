"""The pages are true: every file that they name is there, and every link leads somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = "cluster|deployments|fusion|tuning|quorate|tests|benchmarks|docs"
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "benchmarks/RESULTS.md",
    *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", (ROOT / page).read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_pages_name_files():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert len(re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", page)) > 100


def headings(page):
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        if re.match(r"https?:", link):
            continue
        name, _, anchor = link.partition("#")
        there = (ROOT / page).parent / name if name else ROOT / page
        assert there.exists(), link
        assert not anchor or anchor in headings(there), link


def test_every_test_that_the_security_map_names_is_there():
    page = (ROOT / "docs/security-map.md").read_text(encoding="utf-8")
    entries = re.findall(r"^\| (ML\d\d) .*`tests/", page, re.MULTILINE)
    assert entries == [f"ML{number:02}" for number in range(1, 11)]
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page):
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file} has no {name}"
