"""The pages for developers are true: every file that they name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = "cluster|deployments|fusion|tuning|quorate|tests|benchmarks|docs"
PAGES = [
    "docs/architecture.md",
    "docs/clients.md",
    "docs/monitoring.md",
    "docs/reliability.md",
    "docs/scale.md",
    "docs/security-map.md",
    "docs/upgrading.md",
    "CONTRIBUTING.md",
    "README.md",
    "benchmarks/RESULTS.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", (ROOT / page).read_text(encoding="utf-8"))
    assert named or page in ("benchmarks/RESULTS.md", "docs/monitoring.md", "docs/scale.md")
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_test_that_the_security_map_names_is_there():
    page = (ROOT / "docs/security-map.md").read_text(encoding="utf-8")
    entries = re.findall(r"^\| (ML\d\d) .*`tests/", page, re.MULTILINE)
    assert entries == [f"ML{number:02}" for number in range(1, 11)]
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page):
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file} has no {name}"
