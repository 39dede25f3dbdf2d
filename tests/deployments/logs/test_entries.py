"""Which entries of a log are of the last minutes, however their times are written."""

import time

import pytest

from quorate.deployments.logs.entries import written_since

AT = 1_750_000_000.0


def plain(age_s):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(AT - age_s))


def iso(age_s):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(AT - age_s)) + ".250Z"


def of_json(age_s):
    return f'{{"time":"{iso(age_s)}","level":"INFO","message":"'


@pytest.mark.parametrize("stamp", [plain, iso, of_json])
def test_entries_of_the_last_minutes_are_given_with_the_lines_that_belong_to_them(stamp):
    old = f"{stamp(600)} failed on a request\nTraceback\n  old.py\n"
    new = f"{stamp(59)} failed on a request\nTraceback\n  2025-13-45 00:00:00 is no time\n{stamp(5)} said\n"
    assert written_since(old + new, AT - 60) == new
    assert written_since(old + new, AT - 601) == old + new
    assert written_since(old, AT - 60) == ""


def test_lines_without_any_time_are_of_no_time():
    assert written_since("a line\n", AT) == ""
