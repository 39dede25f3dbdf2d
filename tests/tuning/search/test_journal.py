import errno
import json
import os

import pytest

from quorate.tuning.errors import SweepError
from quorate.tuning.search.journal import Finished, Journal, holding

TRIAL = Finished(3, {"family": "mlp"}, {"log_loss": 0.5}, details={"history": [1.0, None]})


def test_what_was_written_is_read_by_number(tmp_path):
    journal = Journal(tmp_path)
    journal.write("members", TRIAL)
    journal.write("members", Finished(0, {}, failure="no memory"))
    assert journal.read("members") == ({0: Finished(0, {}, failure="no memory"), 3: TRIAL}, [])
    assert journal.read("structures") == ({}, [])


@pytest.mark.parametrize("damage", [lambda text: text[:-9], lambda text: text.replace("0.5", "0.4"), lambda text: "[]"])
def test_a_damaged_file_is_a_trial_that_never_ran(tmp_path, damage):
    journal = Journal(tmp_path)
    journal.write("members", TRIAL)
    path = tmp_path / "trials/members/00003.json"
    path.write_text(damage(path.read_text()))
    found, said = journal.read("members")
    assert found == {}
    assert said == ["members/00003.json is damaged: the trial runs again"]


def test_values_that_json_cannot_hold_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        Journal(tmp_path).write("members", Finished(0, {}, {"log_loss": float("nan")}))


def test_a_full_disk_is_one_sentence_that_says_how_to_go_on(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("quorate.deployments.atomic_files.os.fsync", full)
    with pytest.raises(SweepError, match=r"cannot be written \(No space left on device\); make room, .*--resume"):
        Journal(tmp_path).write("members", TRIAL)
    assert not list(tmp_path.rglob("*.json"))


def test_one_process_at_a_time_holds_a_folder(tmp_path):
    with holding(tmp_path), pytest.raises(SweepError, match="another process runs this sweep"), holding(tmp_path):
        raise AssertionError
    with holding(tmp_path):  # the lock went with its holder
        pass


def test_a_trial_survives_as_json_holds_it(tmp_path):
    Journal(tmp_path).write("structures", TRIAL)
    sealed = json.loads((tmp_path / "trials/structures/00003.json").read_text())
    assert sealed["trial"]["values"] == {"log_loss": 0.5}
