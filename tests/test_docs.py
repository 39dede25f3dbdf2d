"""The pages for developers are true: every file that they name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = "cluster|deployments|fusion|tuning|quorate|tests|benchmarks|docs"
PAGES = ["docs/architecture.md", "docs/reliability.md", "CONTRIBUTING.md", "README.md", "benchmarks/RESULTS.md"]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", (ROOT / page).read_text(encoding="utf-8"))
    assert named or page == "benchmarks/RESULTS.md"
    assert [name for name in named if not (ROOT / name).exists()] == []
