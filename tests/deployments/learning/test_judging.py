"""Shadows judged by labels while doors answer: losses, the interval, and labels that come early, twice, or late."""

import threading

import numpy as np
import pytest
from sklearn.metrics import log_loss

from quorate.deployments import parse_spec
from quorate.deployments.client.client import Client
from quorate.deployments.engine.revision import Revision, build_revision
from quorate.deployments.learning.folder import RecordFolder
from quorate.deployments.learning.label_files import LabelFiles, LabelRow, read_rows
from quorate.deployments.learning.labels import Label
from quorate.deployments.learning.shadows import judging
from quorate.deployments.learning.shadows.asking import Asks
from quorate.deployments.learning.shadows.judging import JudgedSums, LabelJudge, Said
from quorate.deployments.rollout.confidence_sequence import mean_within
from tests.deployments.support.known_answers import known_answers
from tests.deployments.support.member_threads import FACTORIES
from tests.deployments.support.waiting import until

RANDOM = np.random.default_rng(5)
CLASSES = ("red", "green", "blue")
ROWS = RANDOM.normal(size=(60, 2)).astype(np.float32)
TRUTH = RANDOM.integers(0, 3, size=60)
LIVE = 0.25 * known_answers(ROWS, 1) + 0.75 * known_answers(ROWS, -2)
OTHER = 0.25 * known_answers(ROWS, 1) + 0.75 * known_answers(ROWS, 3)


@pytest.fixture
def judge(tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "LOOK_S", 0.02)
    judge = LabelJudge(str(tmp_path))
    until(lambda: judge._labels is not None)
    judge.use(["s"], anew=True)
    yield judge
    judge.close()


@pytest.fixture
def label(tmp_path):
    """Write labels of answers of two rows each, as a replica does."""
    files = LabelFiles(RecordFolder(tmp_path), "0123456789ab")

    def run(rows, output="", truth=TRUTH):
        files.append([LabelRow(f"a{at // 2}", at % 2, output, Label((CLASSES[truth[at]],)), 1) for at in rows])

    return run


def said(rows=range(60), name="s"):
    at = np.asarray(rows)
    everywhere = np.ones(len(at), np.bool_)
    ids = [f"a{row // 2}" for row in rows[::2]]
    given = (LIVE[at].astype(np.float32), everywhere), {name: (OTHER[at].astype(np.float32), everywhere)}
    return Said("classification", CLASSES, "", ids, [2] * len(ids), *given)


def test_losses_are_scikit_learns_and_the_interval_is_of_answers(judge, label):
    judge.remember(said())
    label(range(60))
    until(lambda: judge.sums.get(("s", ""), JudgedSums()).rows == 60)
    found = judge.sums["s", ""]
    losses = [log_loss(TRUTH, fused, labels=[0, 1, 2]) for fused in (LIVE, OTHER)]
    assert (found.live / 60, found.shadow / 60) == pytest.approx(losses, rel=1e-5)
    assert (found.metric, found.answers) == ("log_loss", 30)
    gains = np.log(OTHER[np.arange(60), TRUTH]) - np.log(LIVE[np.arange(60), TRUTH])
    assert found.gain == pytest.approx(gains.mean(), rel=1e-4)
    parts = (gains - gains.mean()).reshape(30, 2).sum(axis=1) / 2  # each answer's, of 30 means of two rows
    assert found.within == pytest.approx(mean_within(float(parts.std()), 30, 0.05), rel=1e-4)


def test_labels_that_are_early_or_come_twice_count_once(judge, label):
    label(range(20))
    label(range(20), truth=(TRUTH + 1) % 3)
    judge.remember(said(range(10)))
    judge.remember(said(range(10, 30)))
    until(lambda: judge.sums.get(("s", ""), JudgedSums()).rows == 20)
    label(range(20, 40))
    until(lambda: judge.sums["s", ""].rows == 30)  # of those beyond nothing is known
    assert judge.sums["s", ""].live == pytest.approx(30 * log_loss(TRUTH[:30], LIVE[:30], labels=[0, 1, 2]), rel=1e-5)


def test_labels_of_answers_before_it_began_are_not_looked_at_one_by_one(tmp_path, label, monkeypatch):
    read = []

    def reading(batch):
        for row in read_rows(batch):
            read.append(row.id)
            yield row

    monkeypatch.setattr(judging, "LOOK_S", 0.02)
    monkeypatch.setattr(judging, "read_rows", reading)
    label(range(20))
    judge = LabelJudge(str(tmp_path))
    until(lambda: judge._labels is not None)
    judge.use(["s"], anew=True)
    judge.remember(said())
    label(range(20, 40))
    until(lambda: judge.sums.get(("s", ""), JudgedSums()).rows == 20)
    judge.close()
    assert set(read) == {f"a{number}" for number in range(10, 20)}


def test_what_doors_have_adds_up(judge, label):
    judge.remember(said())
    label(range(30))
    until(lambda: judge.sums.get(("s", ""), JudgedSums()).rows == 30)
    part = judge.sums["s", ""]
    label(range(30, 60))
    until(lambda: judge.sums["s", ""].rows == 60)
    whole = judge.sums["s", ""]
    told = JudgedSums.from_json({**part.to_json(), "of another version": 1})
    assert (told, part.joined(part).gain) == (part, pytest.approx(part.gain))
    assert part.joined(JudgedSums()) == part
    assert whole.answers == 2 * part.answers


def test_more_than_it_may_hold_is_forgotten_the_oldest_first(judge, label, monkeypatch):
    monkeypatch.setattr(judging, "MOST_BYTES", said(range(20)).nbytes + 1)
    judge.remember(said(range(20)))
    judge.remember(said(range(20, 40)))
    until(lambda: ("a10", "") in judge._answers)
    label(range(40))
    until(lambda: judge.sums.get(("s", ""), JudgedSums()).rows == 20)
    assert judge.sums["s", ""].live == pytest.approx(
        20 * log_loss(TRUTH[20:40], LIVE[20:40], labels=[0, 1, 2]), rel=1e-5
    )  # fmt: skip


def test_shadows_that_say_theirs_of_one_answer_apart_are_all_judged(judge, label):
    judge.use(["s", "t", "u"], anew=False)
    judge.remember(said(range(20)))
    judge.remember(said(range(20), "t"))
    label(range(20))
    until(lambda: {judge.sums.get((name, ""), JudgedSums()).rows for name in "st"} == {20})
    judge.remember(said(range(20), "u"))  # after its labels
    until(lambda: judge.sums.get(("u", ""), JudgedSums()).rows == 20)
    assert judge.sums["s", ""].rows == 20


def test_while_the_store_does_not_answer_no_more_waits_than_may_be_held(judge, monkeypatch):
    released, waits = threading.Event(), threading.Event()

    def blocked(files, kind):
        waits.set()
        released.wait()
        return []

    monkeypatch.setattr(RecordFolder, "list", blocked)
    monkeypatch.setattr(judging, "MOST_BYTES", 3 * said(range(2)).nbytes)
    judge.remember(said(range(2)))
    waits.wait()
    for at in range(2, 60, 2):
        judge.remember(said(range(at, at + 2)))
    assert judge._queue.qsize() <= 4
    released.set()


def test_another_live_revision_and_another_shadow_count_anew(judge, label):
    judge.remember(said(range(20)))
    label(range(10))
    until(lambda: judge.sums.get(("s", ""), JudgedSums()).rows == 10)
    judge.use(["s", "t"], anew=False)
    judge.remember(said(range(20, 40), "t"))
    label(range(20, 30))
    until(lambda: judge.sums.get(("t", ""), JudgedSums()).rows == 10)
    assert judge.sums["s", ""].rows == 10
    judge.use(["t"], anew=True)
    until(lambda: not judge.sums)


def test_a_shadow_with_a_member_of_its_own_is_judged_as_labels_come(open_doors, pair_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "LOOK_S", 0.05)
    members = {**pair_spec["members"], "c": {**pair_spec["members"]["a"], "config": {"shift": 3}}}

    def spec(**weights):
        fusion = {"rule": "weighted_mean", "weights": weights, "deadline_s": 5.0}
        record = {"folder": str(tmp_path)}
        return {**pair_spec, "name": "judged", "members": members, "fusion": fusion, "record": record}

    doors = open_doors(spec(a=0.25, b=0.75, c=0.0))
    shadow = build_revision(parse_spec(spec(a=0.25, b=0.0, c=0.75)), FACTORIES)
    doors.server.use_shadows([shadow], {}, {shadow.name: Asks(1.0, {"c": "c"})})

    def judged():
        report = doors.server.with_shadows(lambda shadows: shadows.report())
        return JudgedSums.from_json(report["shadows"][shadow.name]["judged"].get("", {}))

    with Client(doors.http, model="judged") as client:
        for at in range(0, 60, 4):
            answer = client.infer({"x": ROWS[at : at + 4]})
            client.feedback(answer, [CLASSES[true] for true in TRUTH[at : at + 4]])
    until(lambda: judged().rows == 60)
    assert judged().gain == pytest.approx(
        np.mean(np.log(OTHER[np.arange(60), TRUTH]) - np.log(LIVE[np.arange(60), TRUTH])), rel=1e-4
    )  # fmt: skip
    doors.server.use_shadows([], {}, {})


def test_a_shadow_is_judged_where_the_one_before_it_fails(open_doors, pair_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "LOOK_S", 0.05)
    fused, broken = Revision.fuse_again, "mean"

    def fuse_again(revision, *given):
        if revision.spec.fusion.rule == broken:
            raise RuntimeError("cannot")
        return fused(revision, *given)

    monkeypatch.setattr(Revision, "fuse_again", fuse_again)
    spec = {**pair_spec, "name": "judged-too", "record": {"folder": str(tmp_path)}}
    doors = open_doors(spec)
    rules = ({"rule": broken}, {"rule": "median"})
    shadows = [build_revision(parse_spec({**spec, "fusion": {**one, "deadline_s": 5.0}}), FACTORIES) for one in rules]
    doors.server.with_shadows(lambda found: found.use(shadows))

    def judged(shadow):
        report = doors.server.with_shadows(lambda found: found.report())
        return JudgedSums.from_json(report["shadows"][shadow.name]["judged"].get("", {}))

    with Client(doors.http, model="judged-too") as client:
        client.feedback(client.infer({"x": ROWS[:4]}), [CLASSES[true] for true in TRUTH[:4]])
    until(lambda: judged(shadows[1]).rows == 4)
    assert judged(shadows[0]).rows == 0
    doors.server.with_shadows(lambda found: found.use([]))
