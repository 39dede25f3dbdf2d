"""A record with labels takes a run on: members that answered are not asked again."""

import asyncio
from collections import Counter

import numpy as np
import pytest

import quorate
from quorate.deployments import parse_spec
from quorate.deployments.learning.folder import RecordFolder
from quorate.deployments.learning.label_files import LabelFiles, LabelRow
from quorate.deployments.learning.labels import Label
from quorate.deployments.learning.recorder import Recorder
from quorate.deployments.spec.digests import pin
from quorate.deployments.spec.fields.record import RecordSpec
from quorate.tuning import Labelled, run_in_process, tune_fusion
from quorate.tuning.data.recorded import more_of_record
from quorate.tuning.errors import DataError, PredictionError
from quorate.tuning.workflows.continued.former_run import former_run
from quorate.tuning.workflows.continued.tune_more import tune_more
from tests.deployments.support.known_answers import known_answers, two_known, weighted_answers
from tests.deployments.support.member_threads import FACTORIES, running
from tests.deployments.support.uncounted import Uncounted

CLASSES = ("red", "green", "blue")
SPEC = two_known("judged", 0.5)
OTHERS = {**SPEC, "members": {**SPEC["members"], "b": {**SPEC["members"]["b"], "config": {"shift": 3}}}}


def drawn(count, seed):
    """Rows whose class follows a mixture of both members."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, 2)).astype(np.float32)
    shares = weighted_answers(rows, 0.8)
    labels = np.array([random.choice(3, p=one / one.sum()) for one in shares])
    return Labelled({"x": rows}, labels, CLASSES)


def record(folder, spec, rows, **settings):
    """Answer the rows, one a request, and label them."""
    pinned = pin(parse_spec(spec), FACTORIES)

    async def scenario():
        async with running(pinned.model_dump(mode="json", exclude_defaults=True)) as engine:
            kept = RecordSpec(folder=str(folder), **settings)
            keeper = engine.answers.keeper = Recorder("judged", kept, engine.answers.replica, Uncounted())
            answers = await asyncio.gather(*(engine.infer({"x": row[None]}) for row in rows.inputs["x"]))
            await asyncio.to_thread(keeper.close)
            return answers

    answers = asyncio.run(scenario())
    files = LabelFiles(RecordFolder(f"{folder}/judged"), answers[0].id.partition("-")[0])
    files.announce()
    said = zip(answers, rows.labels.tolist(), strict=True)
    files.append([LabelRow(answer.id, 0, "", Label((CLASSES[label],)), 1) for answer, label in said])
    files.close()


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return tune_fusion(parse_spec(SPEC), FACTORIES, drawn(150, 1), drawn(150, 2), runs=runs)


def nobody(job, folder, inputs):
    raise AssertionError(f"{job.name} was asked")


def test_members_that_answered_are_not_asked_again(first, tmp_path):
    rows = drawn(120, 3)
    record(tmp_path, SPEC, rows)
    former = former_run(first.folder)
    more = more_of_record(f"{tmp_path}/judged", former.whole, former.folder)
    result = tune_more(former, more, run=nobody, runs=tmp_path / "runs")
    assert result.more is not None
    assert (result.more.solved + result.more.judged, result.more.before) == (120, 300)
    kept = former_run(result.folder)
    solved, judged = (kept.store.read(split, ["a"])[0] for split in ("validation", "held-out"))
    said = np.concatenate([solved[300:], judged])
    np.testing.assert_allclose(np.sort(said, axis=0), np.sort(known_answers(rows.inputs["x"], 1), axis=0), atol=1e-3)
    assert (result.folder / "probe.arrow").is_file()  # of the rows that the run before was shown by
    again = quorate.tune(first.folder, more=f"{tmp_path}/judged", runs=tmp_path / "runs")
    assert again.weights == result.weights


def test_answers_of_another_member_are_refused_unless_their_inputs_were_kept(first, tmp_path):
    rows = drawn(60, 4)
    record(tmp_path / "without", OTHERS, rows)
    former = former_run(first.folder)
    more = more_of_record(f"{tmp_path}/without/judged", former.whole, former.folder)
    assert more.others == {"b": 60}
    with pytest.raises(PredictionError, match=r"members.b.*another one answered 60 of the new rows.*keeps inputs"):
        tune_more(former, more, run=nobody, runs=tmp_path / "runs")
    record(tmp_path / "kept", OTHERS, rows, inputs=True)
    more = more_of_record(f"{tmp_path}/kept/judged", former.whole, former.folder)
    asked = Counter[str]()

    def counting(job, folder, inputs):
        asked[job.name] += len(inputs["x"])
        return run_in_process(job, folder, inputs)

    result = tune_more(former, more, run=counting, runs=tmp_path / "runs")
    assert dict(asked) == {"b": 60}
    kept = former_run(result.folder)
    solved, judged = (kept.store.read(split, ["b"])[0] for split in ("validation", "held-out"))
    said = np.concatenate([solved[300:], judged])
    np.testing.assert_allclose(np.sort(said, axis=0), np.sort(known_answers(rows.inputs["x"], -2), axis=0), atol=1e-5)


def test_a_record_of_a_fusion_that_chose_whom_to_ask_is_no_sample_without_inputs(first, tmp_path):
    options = {"stages": [["a"], ["b"]], "thresholds": [0.6]}
    fusion = {"rule": "cascade", "options": options, "deadline_s": 5.0}
    cascade, rows = {**SPEC, "fusion": fusion}, drawn(60, 5)
    former = former_run(first.folder)
    record(tmp_path / "without", cascade, rows)
    with pytest.raises(DataError, match=r"of 60 labelled rows did not ask all members.*inputs: true"):
        more_of_record(f"{tmp_path}/without/judged", former.whole, former.folder)
    record(tmp_path / "kept", cascade, rows, inputs=True)
    more = more_of_record(f"{tmp_path}/kept/judged", former.whole, former.folder)
    assert 0 < np.isnan(more.outputs["b"]).any(axis=1).sum() < 60
    assert not np.isnan(more.outputs["a"]).any()


def test_a_record_of_fewer_members_says_nothing_of_the_others(first, tmp_path):
    fewer = {**SPEC, "members": {"a": SPEC["members"]["a"]}, "fusion": {"rule": "mean", "deadline_s": 5.0}}
    record(tmp_path, fewer, drawn(60, 6), inputs=True)
    former = former_run(first.folder)
    more = more_of_record(f"{tmp_path}/judged", former.whole, former.folder)
    assert more.others == {}
    assert np.isnan(more.outputs["b"]).all()
    assert not np.isnan(more.outputs["a"]).any()
