"""Labels for answers: on every wire, told apart, there after a restart, and never acknowledged before they are kept."""

import asyncio
import contextlib
import os
from typing import Any

import grpc
import httpx
import numpy as np
import pyarrow as pa
import pytest

from quorate.deployments import AsyncClient, Client
from quorate.deployments.errors import RemoteError, RequestError, UnavailableError
from quorate.deployments.learning.arrow_file import ArrowFile
from quorate.deployments.learning.feedback import Feedback
from quorate.deployments.learning.folder import LABELS, RecordFolder
from quorate.deployments.learning.known_answers import KnownAnswers
from quorate.deployments.learning.label_files import JOIN_FILES, SCHEMA, LabelFiles, LabelRow, write_rows
from quorate.deployments.learning.labels import Label, read_label
from quorate.deployments.learning.reading import open_record
from quorate.deployments.learning.seen import RECENT, Seen
from quorate.deployments.server.fusion_server import Served
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.fields.record import RecordSpec
from quorate.deployments.wire import feedback_pb2 as pb
from quorate.deployments.wire.feedback import GivenLabel
from tests.deployments.support.given_labels import NOW, OTHER, OWN, Counted, answer, verdicts
from tests.deployments.support.member_threads import FACTORIES
from tests.deployments.support.waiting import until

ROWS = np.array([[0.5, -1.0], [2.0, 1.0], [0.0, 3.0]], np.float32)


@pytest.fixture
def spec(pair_spec):
    return EnsembleSpec.model_validate(pair_spec)


@pytest.fixture
def give(tmp_path, spec):
    """Give labels to one replica of a record in a folder; the verdict on each."""
    opened: list[tuple[tuple[str, RecordSpec], Feedback]] = []

    def run(*labels, replica=OWN, location=None, **settings):
        record = RecordSpec(folder=str(location or tmp_path), **settings)
        feedback = next((f for key, f in opened if key == (replica, record)), None)
        if feedback is None:
            feedback = Feedback("pair", record, replica, Counted())
            opened.append(((replica, record), feedback))
        return feedback.give(spec, [GivenLabel(*label) for label in labels]).result(60)

    yield run
    for _, feedback in opened:
        feedback.close()


def test_labels_that_come_twice_or_contradict_are_told_apart(give):
    first = answer()
    assert verdicts(give((first, "red"), (first, "red"), (first, "blue"))) == {
        "accepted": 1, "again": 1, "contradicting": 1,
    }  # fmt: skip
    assert verdicts(give((first, "red"), (first, "blue"), (answer(1), "blue"))) == {
        "accepted": 1, "again": 1, "contradicting": 1,
    }  # fmt: skip


def test_labels_of_unknown_unrecorded_and_expired_answers_are_told_apart(give):
    late = answer(at=NOW - 100 * 3600)
    reply = give(
        ("nonsense", "red"), (answer(replica=OTHER), "red"), (f"{OWN}-4", "red"), (late, "red"), keep_for="90h"
    )  # fmt: skip
    assert [refused.verdict for refused in reply.refused] == ["unknown", "unknown", "unrecorded", "expired"]
    assert [refused.index for refused in reply.refused] == [0, 1, 2, 3]


def test_wrong_labels_and_rows_are_refused_one_by_one_and_the_others_kept(give):
    reply = give((answer(rows=2), "pink"), (answer(rows=2), "red", 1), (answer(rows=2), "red", 2), (answer(3), None))
    assert verdicts(reply) == {"accepted": 1, "invalid": 3}
    assert "'pink' is no class; there are red, green, blue" in reply.refused[0].why


def test_a_label_that_another_replica_took_is_known_to_all(give, monkeypatch):
    monkeypatch.setattr("quorate.deployments.learning.feedback.OTHERS_S", -1.0)
    assert verdicts(give((answer(), "red"))) == {"accepted": 1}
    assert verdicts(give((answer(replica=OTHER), "red"), replica=OTHER)) == {"accepted": 1}
    assert verdicts(give((answer(), "red"), (answer(), "blue"), replica=OTHER)) == {"again": 1, "contradicting": 1}
    assert verdicts(give((answer(replica=OTHER), "red"))) == {"again": 1}


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_labels_are_there_after_a_restart_also_on_a_store_of_whole_files(give, tmp_path, scheme):
    place = f"{scheme}{tmp_path}/kept"
    assert verdicts(give((answer(), "red"), location=place)) == {"accepted": 1}
    assert verdicts(give((answer(), "red"), (answer(1), "red"), location=place, replica=OTHER)) == {
        "accepted": 1, "again": 1,
    }  # fmt: skip
    found = open_record(f"{place}/pair").labels()
    assert set(found.found.values()) == {Label(("red",))}
    assert len(found) == 2


def test_small_files_of_a_store_are_joined_and_no_label_is_lost(tmp_path):
    files = LabelFiles(RecordFolder(f"file://{tmp_path}"), OWN)
    files.announce()
    for number in range(2 * JOIN_FILES):
        files.append([LabelRow(answer(number), 0, "", Label(("red",)), number)])
    assert len(RecordFolder(tmp_path).list(LABELS)) < JOIN_FILES
    assert len(open_record(tmp_path).labels()) == 2 * JOIN_FILES


def test_files_of_labels_that_have_gone_are_forgotten(tmp_path):
    folder = RecordFolder(tmp_path)
    rows = [LabelRow("a", 0, "", Label(("red",)), 1)]
    reader = LabelFiles(folder, "")
    for _ in range(2):
        with contextlib.closing(ArrowFile(folder.grow(folder.path(LABELS, "1-0.arrow")), SCHEMA)) as file:
            file.write(write_rows(rows))
        assert list(reader.new_rows()) == rows
        for gone in folder.list(LABELS):
            folder.delete(gone.path)
        assert list(reader.new_rows()) == []


def test_nothing_is_acknowledged_that_the_disk_did_not_take(spec, tmp_path, monkeypatch):
    feedback = Feedback("pair", RecordSpec(folder=str(tmp_path)), OWN, Counted())
    given = [GivenLabel(answer(), "red")]
    try:
        feedback.give(spec, [GivenLabel(answer(9), "red")]).result(60)
        with monkeypatch.context() as patch:

            def full(descriptor):
                raise OSError(28, os.strerror(28))

            patch.setattr(os, "fsync", full)
            with pytest.raises(UnavailableError, match="send them again"):
                feedback.give(spec, given).result(60)
        assert verdicts(feedback.give(spec, given).result(60)) == {"accepted": 1}
    finally:
        feedback.close()
    assert len(open_record(tmp_path / "pair").labels()) == 2


def test_a_label_that_comes_when_all_before_have_expired_is_kept(tmp_path):
    files = LabelFiles(RecordFolder(tmp_path), OWN)
    files.append([LabelRow(answer(1), 0, "", Label(("red",)), 1)])
    for file in RecordFolder(tmp_path).list(LABELS):
        RecordFolder(tmp_path).delete(file.path)
    files.append([LabelRow(answer(2), 0, "", Label(("blue",)), 2)])
    files.close()
    assert list(open_record(tmp_path).labels().found.values()) == [Label(("blue",))]


def test_two_replicas_that_took_different_labels_at_once_are_found_by_the_reader(tmp_path):
    for replica, label, time_us in ((OWN, "blue", 2), (OTHER, "red", 1)):
        files = LabelFiles(RecordFolder(tmp_path), replica)
        files.append([LabelRow(answer(at=1), 0, "", Label((label,)), time_us)])
        files.close()
    labels = open_record(tmp_path).labels()
    assert (labels.contradicting, list(labels.found.values())) == (1, [Label(("red",))])


def test_answers_that_made_room_for_later_ones_are_expired(tmp_path):
    folder = RecordFolder(tmp_path)
    folder.put(folder.path("answers", f"{OWN}-000003-70.arrow"), b"x")
    known = KnownAnswers(folder, OWN, 1e6)
    known.look()
    refused = known.refusal(answer(69), 0)
    assert refused is not None
    assert refused[0] == "expired"
    assert known.refusal(answer(70), 0) is None


def test_what_was_seen_is_found_among_many():
    seen, random = Seen(), np.random.default_rng(1)
    keys = random.integers(-(1 << 62), 1 << 62, 3 * RECENT + 5)
    for key in keys.tolist():
        seen.add(key, key // 3)
    assert len(seen) == len(keys)
    some = keys[::97].tolist()
    assert seen.find(some) == [key // 3 for key in some]
    assert seen.find([1, 2]) == [None, None]


def test_of_several_outputs_each_has_its_own_labels(tmp_path, spec):
    fusions = {name: {"rule": "mean", "members": ["a", "b"]} for name in ("colour", "hue")}
    data = {k: v for k, v in spec.model_dump().items() if k not in ("fusion", "digests")}
    several = EnsembleSpec.model_validate({**data, "fusions": fusions, "outputs": ["colour", "hue"]})
    feedback = Feedback("pair", RecordSpec(folder=str(tmp_path)), OWN, Counted())
    given = [
        GivenLabel(answer(1), "red", 0, "hue"),
        GivenLabel(answer(1), "blue", 0, "colour"),
        GivenLabel(answer(1), "red"),
    ]
    reply = feedback.give(several, given).result(60)
    feedback.close()
    assert verdicts(reply) == {"accepted": 2, "invalid": 1}
    assert "name one of colour, hue" in reply.refused[0].why


TASKS: dict[str, tuple[dict[str, Any], Any, Label]] = {
    "multilabel": ({"task": "multilabel"}, ["blue", "red"], Label(("blue", "red"))),
    "binary": ({"task": "binary", "classes": ["no", "yes"]}, "yes", Label(("yes",))),
    "regression": ({"classes": None, "output": "values"}, 2.5, Label(values=(2.5,))),
    "several values": ({"classes": None, "output": "values"}, [1, 2], Label(values=(1.0, 2.0))),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_label_says_what_the_task_asks(pair_spec, task):
    changes, given, said = TASKS[task]
    members = {n: {**m, "output": changes.get("output", m["output"])} for n, m in pair_spec["members"].items()}
    asked = {k: v for k, v in changes.items() if k != "output"}
    spec = EnsembleSpec.model_validate({**pair_spec, "members": members, **asked})
    assert read_label(spec, GivenLabel("a", given)) == said
    for wrong in ("maybe", None, float("nan"), ["red", "maybe"], {"red": 1}, True):
        with pytest.raises(RequestError):
            read_label(spec, GivenLabel("a", wrong))


@pytest.fixture(scope="module")
def recorded(open_doors, pair_spec, tmp_path_factory):
    record = {"folder": str(tmp_path_factory.mktemp("record")), "inputs": True}
    return open_doors({**pair_spec, "record": record})


def test_a_client_gives_labels_for_a_result(recorded):
    with Client(recorded.http, model="pair") as client:
        result = client.infer(x=ROWS)
        assert verdicts(client.feedback(result, ["red", "blue", "green"])) == {"accepted": 3}
        one = client.infer(x=ROWS[:1]).parameters["answer_id"]
        assert verdicts(client.feedback(one, "red")) == {"accepted": 1}
        assert verdicts(client.feedback([one, one], ["red", "blue"])) == {"again": 1, "contradicting": 1}
        with pytest.raises(RequestError, match="2 labels for 3 rows"):
            client.feedback(result, ["red", "blue"])
        with pytest.raises(RemoteError, match="'a' is a member"):
            client.feedback(one, "red", model="a")

    async def of_async():
        async with AsyncClient(recorded.http, model="pair") as client:
            return await client.feedback(await client.infer(x=ROWS), ["red", "red", "red"])

    assert verdicts(asyncio.run(of_async())) == {"accepted": 3}


def test_labels_come_as_arrow_and_over_grpc(recorded):
    with Client(recorded.http, model="pair") as client:
        ids = [client.infer(x=ROWS[:1]).parameters["answer_id"] for _ in range(4)]
    batch = pa.record_batch({"id": ids[:3], "label": ["red", "blue", "pink"]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch.slice(0, 1))
        writer.write_batch(batch.slice(1))
    headers = {"content-type": "application/vnd.apache.arrow.stream"}
    url = f"{recorded.http}/v2/models/pair/feedback"
    reply = httpx.post(url, content=sink.getvalue().to_pybytes(), headers=headers).raise_for_status().json()
    assert (reply["accepted"], reply["invalid"], reply["refused"][0]["index"]) == (2, 1, 2)
    with grpc.insecure_channel(recorded.grpc) as channel:
        give = channel.unary_unary(
            "/quorate.Feedback/Give", pb.FeedbackRequest.SerializeToString, pb.FeedbackResponse.FromString
        )
        labels = [pb.Label(id=ids[3], classes=["green"]), pb.Label(id=ids[0], classes=["green"])]
        found = give(pb.FeedbackRequest(model_name="pair", labels=labels), timeout=60)
    assert (found.counts["accepted"], found.counts["contradicting"]) == (1, 1)
    assert [one.verdict for one in found.refused] == ["contradicting"]


def test_every_wire_says_the_answers_id(recorded):
    url, rows = f"{recorded.http}/v2/models/pair/infer", ROWS.tolist()
    tensor = {"name": "x", "datatype": "FP32", "shape": [3, 2], "data": rows}
    with Client(recorded.http, model="pair") as client:
        (arrow,) = client.infer_arrow(pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), 2)}))
    told = [
        httpx.post(url, json={"inputs": [tensor]}).json()["parameters"],
        httpx.post(f"{recorded.http}/v1/models/pair:predict", json={"instances": rows}).json()["parameters"],
        arrow.parameters,
    ]
    ids = [one["answer_id"] for one in told]
    assert len(set(ids)) == 3
    assert all(one.endswith("-3") for one in ids)


def test_answers_that_were_joined_name_the_rows_of_each(recorded):
    rows = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    with Client(recorded.http, model="pair") as client:
        table = pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 2)})
        answers = list(client.infer_arrow(table))
        for found in answers:
            ids = found.parameters["answer_id"].split(",")
            assert sum(int(one.rpartition("-")[2]) for one in ids) == found.batch.num_rows


def test_a_server_without_a_record_says_how_to_have_one(pair):
    reply = httpx.post(f"{pair.http}/v2/models/pair/feedback", json={"id": answer(), "label": "red"})
    assert reply.status_code == 400
    assert "deploy with record: {folder: ...}" in reply.json()["error"]


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{}", '{"id": 1, "label": "red"}', '{"labels": []}', '{"labels": [1]}', '{"id": "x", "row": -1}',
     '{"id": "x", "label": "red", "more": 1}', '{"labels": [], "id": "x"}'],
)  # fmt: skip
def test_a_body_that_is_no_label_gets_a_sentence(recorded, body):
    reply = httpx.post(f"{recorded.http}/v2/models/pair/feedback", content=body)
    assert reply.status_code == 400
    assert len(reply.json()["error"]) > 20


def test_a_record_follows_the_live_spec_and_keeps_what_it_has(open_doors, pair_spec, tmp_path):
    spec = {**pair_spec, "name": "follows", "record": {"folder": str(tmp_path)}}
    doors = open_doors(spec)
    other = EnsembleSpec.model_validate({**spec, "record": {**spec["record"], "exact": False}})
    with Client(doors.http, model="follows") as client:
        before, keeper = client.infer(x=ROWS), doors.engine.answers.keeper
        client.feedback(before, ["red"] * 3)
        name = doors.server.prepare(Served(other, FACTORIES, {name: name for name in other.members}))
        doors.server.with_revisions(lambda revisions: revisions.commit(name))
        until(lambda: doors.engine.answers.keeper is not keeper)
        after = client.infer(x=ROWS)
        assert verdicts(client.feedback(before, ["red", "red", "blue"])) == {"again": 2, "contradicting": 1}
        assert verdicts(client.feedback(after, ["blue"] * 3)) == {"accepted": 3}
    doors.server.stop()
    record = open_record(tmp_path)
    assert {str(rows.ids[0]): rows.about.exact for rows in record.rows()} == {
        before.parameters["answer_id"]: True, after.parameters["answer_id"]: False,
    }  # fmt: skip
    assert len(record.labels()) == 6


def test_labels_outlive_the_server_and_its_record_grows_with_the_next(open_doors, pair_spec, tmp_path):
    doors = open_doors({**pair_spec, "name": "again", "record": {"folder": str(tmp_path)}})
    with Client(doors.http, model="again") as client:
        before = client.infer(x=ROWS)
        assert verdicts(client.feedback(before, ["red"] * 3)) == {"accepted": 3}
    doors.server.stop()
    doors.restart()
    with Client(doors.http, model="again") as client:
        assert verdicts(client.feedback(before, ["red", "red", "blue"])) == {"again": 2, "contradicting": 1}
        after = client.infer(x=ROWS)
        assert verdicts(client.feedback(after, ["blue"] * 3)) == {"accepted": 3}
        counted = httpx.get(f"{doors.http}/metrics").text
    assert 'quorate_labels_total{ensemble="again",verdict="contradicting"} 1.0' in counted
    doors.server.stop()
    record = open_record(tmp_path)
    labels = record.labels()
    found = {
        str(rows.ids[0]): [label.classes[0] for label in labels.of(rows) if label is not None] for rows in record.rows()
    }
    assert found == {
        before.parameters["answer_id"]: ["red"] * 3, after.parameters["answer_id"]: ["blue"] * 3,
    }  # fmt: skip
