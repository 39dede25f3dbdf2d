"""What is kept of answers: readable by pyarrow alone, and never at an answer's cost."""

import asyncio
import json
import os
import threading

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import dataset

from quorate.deployments import parse_spec
from quorate.deployments.engine.requests.answer_ids import AnswerIds
from quorate.deployments.errors import RequestError
from quorate.deployments.learning import recorder as recording
from quorate.deployments.learning.answer_columns import KEY, AnswersMetadata
from quorate.deployments.learning.expiry import Expiry
from quorate.deployments.learning.folder import ANSWERS, LocalFile, RecordFolder
from quorate.deployments.learning.known_answers import answers_name
from quorate.deployments.learning.reading import open_record
from quorate.deployments.learning.recorder import Recorder
from quorate.deployments.spec.fields.record import RecordSpec
from quorate.deployments.wire.answer_id import AnswerId, parse_answer_id
from tests.deployments.support.member_threads import running

ROWS = np.array([[0.5, -1.0], [2.0, 1.0], [0.0, 3.0]], np.float32)


class Counted:
    """Counts as metrics do."""

    def __init__(self):
        self.found = {"kept": 0, "dropped_slow": 0, "dropped_store": 0}

    def recorded(self, outcome, answers):
        self.found[outcome] += answers


def answered(spec, folder, batches=1, counts=None, settings=None, rows=ROWS):
    """Ask an engine with a recorder; the answers, and what was counted."""
    counts = counts or Counted()

    async def scenario():
        async with running(spec) as engine:
            settings_of = RecordSpec(folder=str(folder), **(settings or {}))
            keeper = Recorder(engine.spec.name, settings_of, engine.answers.replica, counts)
            engine.answers.keeper = keeper
            answers = [await engine.infer({"x": rows}) for _ in range(batches)]
            await asyncio.to_thread(keeper.close)
            return answers

    return asyncio.run(scenario()), counts.found


def known(text):
    """What an id says, which is one."""
    found = parse_answer_id(text)
    assert found is not None
    return found


def test_an_id_says_who_answered_when_and_of_how_many_rows():
    assert parse_answer_id("0123456789ab-7-1700000000-3") == AnswerId("0123456789ab", 7, 1700000000, 3)
    assert parse_answer_id("0123456789ab-7") == AnswerId("0123456789ab", 7)
    assert not any(map(parse_answer_id, ("", "x-1", "0123456789ab", "0123456789ab-1-2", "0123456789AB-1-2-3")))


def test_ids_of_replicas_and_of_one_that_starts_again_differ():
    assert len({AnswerIds().replica for _ in range(100)}) == 100


def test_each_answer_has_an_id_of_its_own_and_nothing_is_kept_where_nothing_is_asked_for(pair_spec):
    async def scenario():
        async with running(pair_spec) as engine:
            return [(await engine.infer({"x": ROWS})).parameters()["answer_id"] for _ in range(3)]

    ids = [known(one) for one in asyncio.run(scenario())]
    assert [one.number for one in ids] == [0, 1, 2]
    assert not any(one.recorded for one in ids)


def test_a_record_is_read_by_pyarrow_alone(pair_spec, tmp_path):
    answers, counted = answered(pair_spec, tmp_path, batches=2, settings={"inputs": True})
    table = dataset.dataset(tmp_path / "pair" / "answers", format="arrow").to_table()
    assert table.column("id").to_pylist() == [a.id for a in answers for _ in ROWS]
    assert table.column("row").to_pylist() == [0, 1, 2] * 2
    fused = np.stack(table.column("fused").to_pylist()).astype(np.float32)
    assert np.array_equal(fused, np.concatenate([answer.values for answer in answers]))
    gave = [np.stack(table.column(f"output/{m}").to_pylist()) for m in "ab"]
    np.testing.assert_allclose(0.25 * gave[0] + 0.75 * gave[1], fused, atol=1e-6)
    assert set(table.column("state/a").to_pylist()) == {"ok"}
    assert np.array_equal(np.stack(table.column("input/x").to_pylist()).astype(np.float32), np.tile(ROWS, (2, 1)))
    said = json.loads(table.schema.metadata[b"quorate"])
    assert (said["ensemble"], said["members"], said["classes"]) == ("pair", ["a", "b"], ["red", "green", "blue"])
    assert (said["revision"], said["exact"]) == (answers[0].revision, True)
    assert counted == {"kept": 2, "dropped_slow": 0, "dropped_store": 0}


def test_files_of_a_later_version_are_read_as_far_as_they_say_the_same(pair_spec, tmp_path):
    answered(pair_spec, tmp_path)
    (rows,) = open_record(tmp_path).rows()
    said = {**json.loads(rows.batch.schema.metadata[KEY]), "weather": "fine"}
    later = rows.batch.schema.with_metadata({KEY: json.dumps(said)})
    assert AnswersMetadata.of_schema(later) == rows.about
    with pytest.raises(RequestError, match="format 2, this Quorate reads 1"):
        AnswersMetadata.of_schema(later.with_metadata({KEY: json.dumps({**said, "version": 2})}))


def test_a_member_that_failed_on_a_row_is_told_from_one_that_did_not(pair_spec, tmp_path):
    members = {**pair_spec["members"], "b": {**pair_spec["members"]["b"], "model": "known:picky"}}
    rows = np.array([[14.0, 0.0], [1.0, 2.0]], np.float32)  # NaN of the first
    answered({**pair_spec, "members": members}, tmp_path, rows=rows)
    (found,) = open_record(tmp_path).rows()
    assert found.batch.column("state/b").to_pylist() == ["nonfinite", "ok"]
    assert found.batch.column("state/a").to_pylist() == ["ok", "ok"]


def test_a_rehearsal_is_answered_and_not_recorded(pair_spec, tmp_path):
    async def scenario():
        async with running(pair_spec) as engine:
            settings = RecordSpec(folder=str(tmp_path))
            keeper = engine.answers.keeper = Recorder("pair", settings, engine.answers.replica, Counted())
            asked = [engine.infer({"x": ROWS}, rehearsal=n == 1) for n in range(3)]
            answers = await asyncio.gather(*asked)
            await asyncio.to_thread(keeper.close)
            return answers

    told = [known(answer.id).recorded for answer in asyncio.run(scenario())]
    assert told == [True, False, True]
    assert sum(map(len, open_record(tmp_path).rows())) == 2 * len(ROWS)


def test_half_precision_says_so(pair_spec, tmp_path):
    answered(pair_spec, tmp_path, settings={"exact": False})
    (found,) = open_record(tmp_path).rows()
    assert not found.about.exact
    assert found.batch.schema.field("output/a").type.value_type == pa.float16()
    assert found.batch.schema.field("fused").type.value_type == pa.float32()


def test_a_share_of_the_answers_is_kept_and_their_ids_tell(pair_spec, tmp_path):
    answers, counted = answered(pair_spec, tmp_path, batches=200, settings={"share": 0.5})
    told = {answer.id for answer in answers if known(answer.id).recorded}
    kept = {str(one) for rows in open_record(tmp_path).rows() for one in rows.ids}
    assert told == kept
    assert 50 < counted["kept"] == len(kept) < 150  # further off once in 10^12 runs


def test_what_a_killed_replica_left_behind_is_read_up_to_its_last_batch(pair_spec, tmp_path):
    answered(pair_spec, tmp_path)
    (file,) = (tmp_path / "pair" / "answers").iterdir()
    whole = file.read_bytes()
    found = []
    for length in range(0, len(whole), 97):
        file.write_bytes(whole[:length])
        found.append(sum(map(len, open_record(tmp_path).rows())) if length else 0)
    assert set(found) == {0, len(ROWS)}
    assert found == sorted(found)


class Full(RecordFolder):
    """A folder on a disk that is full, as the kernel says it."""

    def grow(self, path):
        file = super().grow(path)
        assert isinstance(file, LocalFile)
        os.close(file._descriptor)
        file._descriptor = os.open("/dev/full", os.O_WRONLY)
        return file


def test_a_full_disk_drops_records_counts_them_and_says_so(pair_spec, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(recording, "RecordFolder", Full)
    answers, counted = answered(pair_spec, tmp_path, batches=3)
    assert len(answers) == 3
    assert counted == {"kept": 0, "dropped_slow": 0, "dropped_store": 3}
    assert "No space left on device" in caplog.text
    assert "record.share" in caplog.text


def test_a_store_that_hangs_delays_no_answer_and_what_does_not_fit_is_dropped(pair_spec, tmp_path, monkeypatch):
    hanging, began = threading.Event(), threading.Event()

    class Hanging(RecordFolder):
        def grow(self, path):
            began.set()
            hanging.wait(60)
            return super().grow(path)

    monkeypatch.setattr(recording, "RecordFolder", Hanging)
    monkeypatch.setattr(recording, "QUEUE_BYTES", 0)
    counts = Counted()

    async def scenario():
        async with running(pair_spec) as engine:
            settings = RecordSpec(folder=str(tmp_path))
            keeper = engine.answers.keeper = Recorder("pair", settings, engine.answers.replica, counts)
            for _ in range(5):
                await engine.infer({"x": ROWS})
                keeper.tick()
                await asyncio.to_thread(began.wait, 60)
            before = dict(counts.found)
            hanging.set()
            await asyncio.to_thread(keeper.close)
            return before

    assert asyncio.run(scenario()) == {"kept": 0, "dropped_slow": 4, "dropped_store": 0}
    assert counts.found == {"kept": 1, "dropped_slow": 4, "dropped_store": 0}


def test_a_file_says_from_which_answer_on_and_leaves_room_for_late_ones():
    ids = [f"0123456789ab-{number}-1700000000-1" for number in (9001, 9000, 9002)]
    assert answers_name("0123456789ab", 2, ids) == "0123456789ab-000002-4904"
    assert answers_name("0123456789ab", 1, ["0123456789ab-3-1700000000-1"]) == "0123456789ab-000001-0"


def test_old_files_go_and_then_the_oldest_until_the_rest_fits(tmp_path):
    folder = RecordFolder(tmp_path)
    for age in range(5):
        folder.put(folder.path(ANSWERS, f"0123456789ab-{age:06d}-{age}.arrow"), b"x" * 100)
        path = tmp_path / "answers" / f"0123456789ab-{age:06d}-{age}.arrow"
        now = path.stat().st_mtime
        os.utime(path, (now - 100 * (5 - age), now - 100 * (5 - age)))
    Expiry(folder, keep_for_s=450, max_bytes=250).look()
    assert [file.name[-7] for file in folder.list(ANSWERS)] == ["3", "4"]


def test_each_of_several_outputs_is_recorded_under_one_id(tmp_path, pair_spec):
    fusions = {
        "colour": {"rule": "mean", "members": ["a", "b"]},
        "hue": {"rule": "weighted_mean", "members": ["a", "b"], "weights": {"a": 0.9, "b": 0.1}},
    }
    spec = {name: value for name, value in pair_spec.items() if name != "fusion"}
    spec |= {"fusions": fusions, "outputs": ["colour", "hue"]}

    async def scenario():
        async with running(spec) as engine:
            settings = RecordSpec(folder=str(tmp_path))
            keeper = engine.answers.keeper = Recorder("pair", settings, engine.answers.replica, Counted())
            found = await engine.infer_outputs(("colour", "hue"), {"x": ROWS}, engine.revisions.live)
            await asyncio.to_thread(keeper.close)
            return found

    found = asyncio.run(scenario())
    called = found.parameters()["answer_id"]
    assert {answer.id for answer in found.answers.values()} == {called}
    assert {(rows.about.output, rows.ids[0]) for rows in open_record(tmp_path).rows()} == {
        ("colour", called), ("hue", called),
    }  # fmt: skip


def test_a_record_changes_the_revisions_name_and_restarts_nothing(pair_spec):
    plain, kept = parse_spec(pair_spec), parse_spec({**pair_spec, "record": {"folder": "/tmp/r"}})
    assert plain.wiring == kept.wiring
    assert plain.revision != kept.revision
    assert "record" not in plain.model_dump()


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"folder": "here"}, "give an absolute path, or a URI"),
        ({"folder": "/r", "share": 2}, "record.share"),
        ({"folder": "/r", "keep_for": "soon"}, "record.keep_for"),
        ({"share": 1}, "record.folder"),
    ],
)
def test_a_wrong_record_names_its_field(pair_spec, record, said):
    with pytest.raises(Exception, match=said):
        parse_spec({**pair_spec, "record": record})
