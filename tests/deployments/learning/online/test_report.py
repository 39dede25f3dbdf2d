"""What learning online has come to, as it is told in short."""

import pytest

from quorate.deployments.learning.online.report import brief, last_us, read_report


def test_in_short_it_still_says_when_weights_last_went_live_and_when_they_were_taken_back():
    told = [{"taken_back": back, "time_us": at} for at, back in enumerate([False, False, True, False, True])]
    short = brief({"outputs": [], "told": told})
    assert [one["time_us"] for one in short["told"]] == [3, 4]
    assert (last_us(short, False), last_us(short, True)) == (3, 4)


@pytest.mark.parametrize("stored", [b"", b"{}", b'{"state": {}, "report": {}}', b"[]", b"no"])
def test_what_another_version_has_written_is_told_as_nothing(stored):
    assert read_report(stored) == {}
