"""Shadows and the live fusion by labels of recorded answers, as scikit-learn judges them."""

import asyncio
import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from quorate.deployments import parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.deployments.learning.folder import RecordFolder
from quorate.deployments.learning.label_files import LabelFiles, LabelRow
from quorate.deployments.learning.labels import Label
from quorate.deployments.learning.reading import open_record
from quorate.deployments.learning.recorder import Recorder
from quorate.deployments.rollout.confidence_sequence import mean_within
from quorate.deployments.spec.fields.record import RecordSpec
from quorate.tuning.evaluation.judged_shadows import ALPHA, judge_shadows
from tests.deployments.support.known_answers import known_answers, two_known, weighted_answers
from tests.deployments.support.member_threads import FACTORIES, running
from tests.deployments.support.uncounted import Uncounted

CLASSES = ["red", "green", "blue"]
ROWS = np.random.default_rng(5).normal(size=(120, 2)).astype(np.float32)
TRUE = np.random.default_rng(6).integers(0, 3, size=120)
SPEC = two_known("judged", 0.25)


def known(shift):
    return known_answers(ROWS, shift)


def weighted(weight):
    return weighted_answers(ROWS, weight)


def spec(weight, **changed):
    fusion = {**SPEC["fusion"], "weights": {"a": weight, "b": 1 - weight}}
    return {**SPEC, "fusion": fusion, **changed}


def built(weight, **changed):
    return build_revision(parse_spec(spec(weight, **changed)), FACTORIES)


def record(folder, served, rows, labelled, each=1):
    """Answer rows, ``each`` a request, and give those the labels that are to have some."""

    async def scenario():
        async with running(served) as engine:
            keeper = engine.answers.keeper = Recorder(
                "judged", RecordSpec(folder=str(folder)), engine.answers.replica, Uncounted()
            )
            asked = range(rows.start, rows.stop, each)
            answers = await asyncio.gather(*(engine.infer({"x": ROWS[at : at + each]}) for at in asked))
            await asyncio.to_thread(keeper.close)
            return [(answer.id, row) for answer in answers for row in range(each)]

    places = dict(zip(range(rows.start, rows.stop), asyncio.run(scenario()), strict=True))
    if not labelled:
        return
    files = LabelFiles(RecordFolder(f"{folder}/judged"), places[rows.start][0].partition("-")[0])
    files.announce()
    files.append([LabelRow(places[at][0], places[at][1], "", Label((CLASSES[TRUE[at]],)), 1) for at in labelled])
    files.close()


def judged(folder, live, shadow):
    found = judge_shadows(open_record(f"{folder}/judged"), live, {shadow.name: shadow})
    return {one.metric: one for one in found.get((shadow.name, ""), ())}


def test_both_are_judged_on_the_same_labelled_rows(tmp_path):
    labelled = list(range(0, 120, 2))
    record(tmp_path, spec(0.25), range(120), labelled)
    found = judged(tmp_path, built(0.25), built(0.9))
    before, after, true = weighted(0.25)[labelled], weighted(0.9)[labelled], TRUE[labelled]
    loss, right = found["log_loss"], found["accuracy"]
    assert (loss.rows, loss.answers) == (60, 60)
    assert loss.live == pytest.approx(log_loss(true, before, labels=[0, 1, 2]), rel=1e-5)
    assert loss.shadow == pytest.approx(log_loss(true, after, labels=[0, 1, 2]), rel=1e-5)
    assert right.live == pytest.approx(accuracy_score(true, before.argmax(axis=1)))
    assert right.gain == pytest.approx(accuracy_score(true, after.argmax(axis=1)) - right.live)
    gains = np.log(after[np.arange(60), true]) - np.log(before[np.arange(60), true])
    within = mean_within(float(gains.std()), 60, ALPHA)
    assert (loss.gain, loss.least) == pytest.approx((gains.mean(), gains.mean() - within), rel=1e-4)


def test_rows_of_one_answer_count_as_one_draw(tmp_path):
    record(tmp_path, spec(0.25), range(120), range(120), each=4)
    loss = judged(tmp_path, built(0.25), built(0.9))["log_loss"]
    gains = np.log(weighted(0.9)[np.arange(120), TRUE]) - np.log(weighted(0.25)[np.arange(120), TRUE])
    within = mean_within(float(gains.reshape(30, 4).mean(axis=1).std()), 30, ALPHA)
    assert (loss.rows, loss.answers) == (120, 30)
    assert loss.most - loss.gain == pytest.approx(within, rel=1e-4)


def test_answers_of_earlier_revisions_count_where_their_members_are_the_same(tmp_path):
    others = {**SPEC["members"], "b": {**SPEC["members"]["b"], "config": {"shift": 3}}}
    record(tmp_path, spec(0.5), range(40), range(40))
    record(tmp_path, spec(0.5, members=others), range(40, 80), range(40, 80))
    loss = judged(tmp_path, built(0.25), built(0.9))["log_loss"]
    assert loss.rows == 40
    assert loss.live == pytest.approx(log_loss(TRUE[:40], weighted(0.25)[:40], labels=[0, 1, 2]), rel=1e-5)


def test_without_a_label_nobody_is_judged(tmp_path):
    record(tmp_path, spec(0.25), range(20), [])
    assert judged(tmp_path, built(0.25), built(0.9)) == {}


def test_what_is_told_of_one_answer_alone_has_no_bounds(tmp_path):
    record(tmp_path, spec(0.25), range(4), [2])
    assert judged(tmp_path, built(0.25), built(0.9))["log_loss"].most == math.inf
