"""Labelled rows of a record as they come: each once, whenever its label comes."""

import asyncio

import numpy as np
import pytest

from quorate.deployments.learning.feedback import Feedback
from quorate.deployments.learning.folder import RecordFolder
from quorate.deployments.learning.online.following import Follower
from quorate.deployments.learning.recorder import Recorder
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.fields.record import RecordSpec
from quorate.deployments.wire.feedback import GivenLabel
from tests.deployments.support.member_threads import running
from tests.deployments.support.uncounted import Uncounted

ROWS = np.array([[0.5, -1.0], [2.0, 1.0], [0.0, 3.0]], np.float32)


class Door:
    """Answers that are recorded, and labels for them; what it wrote is there when it returns."""

    def __init__(self, plain, folder):
        self.plain, self.settings = plain, RecordSpec(folder=str(folder))
        self.replica = ""

    def answer(self, count):
        async def scenario():
            async with running(self.plain) as engine:
                self.replica = engine.answers.replica
                keeper = Recorder(engine.spec.name, self.settings, self.replica, Uncounted())
                engine.answers.keeper = keeper
                answers = [await engine.infer({"x": ROWS}) for _ in range(count)]
                await asyncio.to_thread(keeper.close)
                return [answer.parameters()["answer_id"] for answer in answers]

        return asyncio.run(scenario())

    def label(self, *given):
        feedback = Feedback("pair", self.settings, self.replica, Uncounted())
        reply = feedback.give(EnsembleSpec.model_validate(self.plain), [GivenLabel(*one) for one in given]).result(60)
        feedback.close()
        return reply


@pytest.fixture
def door(pair_spec, tmp_path):
    return Door(pair_spec, tmp_path)


@pytest.fixture
def follower(tmp_path):
    return Follower(RecordFolder(tmp_path / "pair"))


def rows(follower):
    """By answer, row and label."""
    return [
        (answer, row, label.classes[0])
        for found in follower.new()
        for answer, row, label in zip(
            found.batch.column("id").to_pylist(), found.batch.column("row").to_pylist(), found.labels, strict=True
        )
    ]


def test_each_labelled_row_comes_once_late_labels_of_earlier_answers_too(door, follower):
    assert rows(follower) == []
    first, second = door.answer(2)
    door.label((second, "red", 1))
    assert rows(follower) == [(second, 1, "red")]
    assert rows(follower) == []
    door.answer(3)
    door.label((first, "green", 0), (second, "red", 1), (second, "green", 2), (second, "green", 1))
    assert sorted(rows(follower)) == sorted([(first, 0, "green"), (second, 2, "green")])
    assert rows(follower) == []


def test_one_that_begins_later_finds_the_same_rows(door, follower, tmp_path):
    first, second = door.answer(2)
    door.label((first, "red", 0))
    found = rows(follower)
    door.label((second, "red", 2))
    found += rows(follower)
    assert sorted(rows(Follower(RecordFolder(tmp_path / "pair")))) == sorted(found)


def test_a_label_that_comes_before_its_answer_is_recorded_waits_for_it(door, follower, tmp_path):
    (answer,) = door.answer(1)
    (kept,) = (tmp_path / "pair" / "answers").iterdir()
    kept.rename(tmp_path / kept.name)
    door.label((answer, "red", 0))
    assert rows(follower) == []
    (tmp_path / kept.name).rename(kept)
    assert rows(follower) == [(answer, 0, "red")]


def test_a_label_whose_answer_never_comes_is_forgotten(door, follower, tmp_path, monkeypatch):
    (answer,) = door.answer(1)
    (kept,) = (tmp_path / "pair" / "answers").iterdir()
    kept.rename(tmp_path / kept.name)
    door.label((answer, "red", 0))
    monkeypatch.setattr("quorate.deployments.learning.online.following.WAIT_S", 0.0)
    assert rows(follower) == []
    (tmp_path / kept.name).rename(kept)
    assert rows(follower) == []
