"""docs/reliability.md is true: it has every test once, counts them right, and names no test that is not there."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([A-I]\d+) \| [^|]+ \| ([^|]+) \| ([^|]+) \|([^|]*)\|$", PAGE, re.MULTILINE)
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
GROUPS = {"A": 20, "B": 17, "C": 10, "D": 8, "E": 5, "F": 15, "G": 15, "H": 11, "I": 15}
STATUSES = ("there", "partly", "not there", "does not apply")


@cache
def functions_of(file):
    """The names of the functions of a file, those of classes among them."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda part: part.rpartition("/")[2])
def test_every_test_that_the_table_names_is_there(file, name):
    assert name.startswith("test_")
    assert (ROOT / file).is_file(), f"{file} is not there"
    assert name in functions_of(file), f"{file} has no {name}"


def test_every_id_is_there_once_and_in_order():
    assert [row[0] for row in ROWS] == [f"{group}{n}" for group, count in GROUPS.items() for n in range(1, count + 1)]
    assert len(ROWS) == PAGE.count("\n| ") - 9  # a head for each group


def test_the_counts_are_those_of_the_rows():
    found = Counter(status for _, status, _, _ in ROWS)
    said = re.search(r"(\d+) tests .*: (\d+) there, (\d+) partly, (\d+) not there, (\d+) that do not apply", PAGE)
    assert said is not None
    assert [int(number) for number in said.groups()] == [len(ROWS), *(found[status] for status in STATUSES)]


def test_a_row_names_its_tests_and_what_is_missing():
    for row, status, tests, missing in ROWS:
        assert status in STATUSES, row
        assert tests.startswith("`tests/") or (tests == "-" and status == "not there"), row
        assert missing.strip() or status == "there", row
