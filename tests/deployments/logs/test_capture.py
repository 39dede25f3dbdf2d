"""What a process prints goes where it went, and into its member's log."""

import io
import logging
import sys

from quorate.deployments.logs.capture import copy_output
from quorate.deployments.logs.files import LogFile, read_logs


def test_what_is_printed_and_logged_is_kept_line_by_line_and_still_printed(monkeypatch, tmp_path):
    monkeypatch.setenv("QUORATE_HOME", str(tmp_path))
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    copy_output(LogFile("e", "m", "r"))
    print("one", "line")
    print("no end yet", end="")
    print("an old vocabulary", file=sys.stderr)
    assert logging.lastResort is not None
    logging.lastResort.handle(logging.makeLogRecord({"levelno": logging.WARNING, "msg": "from a logger"}))
    kept = read_logs(("e",))[0].text
    assert out.getvalue() == "one line\nno end yet"
    assert "an old vocabulary" in err.getvalue()
    for said in ("one line", "an old vocabulary", "from a logger"):
        assert said in kept
    assert "no end yet" not in kept
