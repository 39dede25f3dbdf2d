"""Recorded answers fused again are the same to the bit, whatever the rule, and whoever was missing."""

import asyncio
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.metrics import accuracy_score, log_loss

from quorate.deployments import parse_spec
from quorate.deployments.engine.revision import build_revision
from quorate.deployments.errors import RequestError
from quorate.deployments.learning.folder import RecordFolder
from quorate.deployments.learning.label_files import LabelFiles, LabelRow
from quorate.deployments.learning.labels import Label
from quorate.deployments.learning.reading import open_record
from quorate.deployments.learning.recorder import Recorder
from quorate.deployments.learning.replaying import replay_rows
from quorate.deployments.spec.fields.record import RecordSpec
from quorate.fusion.learned.gate import fit_gate
from quorate.fusion.training import Training
from quorate.tuning.data.recorded import read_record
from quorate.tuning.errors import DataError
from quorate.tuning.evaluation.replay import replay
from quorate.tuning.workflows.tune_predictions import outputs_of
from tests.deployments.server.test_tagging import spec_of as tagger_of
from tests.deployments.support.factories.graph import evaluate
from tests.deployments.support.graphs import PLAIN
from tests.deployments.support.graphs import member as linear
from tests.deployments.support.graphs import spec_of as graph_of
from tests.deployments.support.member_threads import FACTORIES, running
from tests.deployments.support.uncounted import Uncounted

CLASSES = ["red", "green", "blue"]


def record(spec, folder, requests, **settings):
    """Ask for all at once, in batches as they come; the answers."""

    async def scenario():
        async with running(spec) as engine:
            kept = RecordSpec(folder=str(folder), **settings)
            keeper = engine.answers.keeper = Recorder(spec["name"], kept, engine.answers.replica, Uncounted())
            answers = await asyncio.gather(*(engine.infer(one) for one in requests), return_exceptions=True)
            await asyncio.to_thread(keeper.close)
            return answers

    return asyncio.run(scenario())


def requests_of(count, seed=0, odd=True):
    """Rows of one to five, of which some members fail on a few."""
    random = np.random.default_rng(seed)
    found = [random.normal(size=(1 + k % 5, 2)).astype(np.float32) for k in range(count)]
    for rows in found[::7] if odd else ():
        rows[0, 0] = 14.0
    return [{"x": rows} for rows in found]


def member(factory, **config):
    return {"model": factory, "config": config, "inputs": ["x"], "output": "probabilities"}


MEMBERS = {
    "a": member("known:known", shift=1),
    "b": member("known:picky", shift=-2),
    "c": member("known:known", shift=0.3),
}
FUSIONS: dict[str, dict[str, Any]] = {
    "weighted_mean": {"weights": {"a": 0.2, "b": 0.5, "c": 0.3}},
    "product": {},
    "median": {},
    "geometric_mean": {"weights": {"a": 0.2, "b": 0.5, "c": 0.3}},
    "majority_vote": {},
    "dempster_shafer": {},
    "mean": {"decision": {"reject_below": 0.5}},
    "cascade": {"options": {"stages": [["a"], ["b", "c"]], "thresholds": [0.7]}},
}


def spec_of(rule, **fields):
    return {
        "name": "kept", "inputs": {"x": {"datatype": "FP32", "shape": [2]}}, "classes": CLASSES, "members": MEMBERS,
        "fusion": {"rule": rule, "deadline_s": 60.0, **fields},
    }  # fmt: skip


@pytest.mark.parametrize("rule", FUSIONS)
def test_answers_are_the_same_to_the_bit_by_every_kind_of_rule(tmp_path, rule):
    answers = record(spec_of(rule, **FUSIONS[rule]), tmp_path, requests_of(60))
    found = replay(open_record(tmp_path))
    assert found.answers == sum(not isinstance(answer, Exception) for answer in answers) > 40
    assert (found.exact, found.left_out) == (found.rows, {})


def test_a_fusion_that_reads_the_request_needs_it_in_the_record(tmp_path):
    generator = torch.Generator().manual_seed(0)
    x, outputs = torch.randn(90, 2, generator=generator), torch.rand(3, 90, 3, generator=generator).softmax(dim=2)
    gate = fit_gate(
        ("a", "b", "c"),
        x,
        outputs,
        torch.randint(3, (90,), generator=generator),
        training=Training(steps=20),
        input_name="x",
        top_k=2,
    )
    save_file(gate.state(), tmp_path / "gate.safetensors")
    spec = spec_of("gate", options=dict(gate.options), state=str(tmp_path / "gate.safetensors"))
    record(spec, tmp_path / "with", requests_of(40), inputs=True)
    record(spec, tmp_path / "without", requests_of(40))
    (tmp_path / "gate.safetensors").unlink()  # the record has its own
    found = replay(open_record(tmp_path / "with"))
    assert found.exact == found.rows > 0
    with pytest.raises(RequestError, match="record with inputs: true"):
        replay(open_record(tmp_path / "without"))


def test_tokens_are_recorded_row_by_row_of_any_length(tmp_path):
    random = np.random.default_rng(0)
    given = [{"x": random.normal(size=(2, 3 + k % 4, 3)).astype(np.float32)} for k in range(12)]
    record(tagger_of("tagger"), tmp_path, given)
    found = replay(open_record(tmp_path))
    assert (found.rows, found.exact) == (24, 24)


def test_members_that_others_read_are_in_the_record_and_the_answers_the_same(tmp_path):
    members = {"trunk": linear(1, ["row"], "features", 8, index=0)}
    members |= {f"head{n}": linear(n, ["trunk"], "logits") for n in (2, 3)}
    spec = graph_of(members, fusion={"rule": "mean"})
    (answer,) = record(spec, tmp_path, [PLAIN])
    (rows,) = open_record(tmp_path).rows()
    assert rows.about.upstream == ("trunk",)
    given = np.stack(rows.batch.column("output/trunk").to_pylist())
    np.testing.assert_allclose(given, evaluate(1, 8, [PLAIN["row"][:, :1]]), atol=1e-6)
    assert rows.batch.column("state/trunk").to_pylist() == ["ok"] * 5
    assert replay(open_record(tmp_path)).exact == 5
    assert np.array_equal(rows.fused, answer.values)


def test_features_that_are_fused_are_recorded_side_by_side(tmp_path):
    members = {
        "eye": linear(1, ["row"], "features", 8, index=0), "ear": linear(2, ["row"], "features", 4, index=0),
        "head": linear(3, ["joined"], "logits"),
    }  # fmt: skip
    fusions = {
        "joined": {"rule": "concat", "members": ["eye", "ear"], "options": {"widths": {"eye": 8, "ear": 4}}},
        "said": {"rule": "mean", "members": ["head"]},
    }
    record(graph_of(members, fusions=fusions), tmp_path, [PLAIN])
    found = replay(open_record(tmp_path))
    assert (found.rows, found.exact) == (5, 5)


def test_half_precision_is_near_and_not_the_same(tmp_path):
    record(spec_of("mean"), tmp_path, requests_of(30), exact=False)
    found = replay(open_record(tmp_path))
    assert found.exact < found.rows
    assert 0 < found.largest < 1e-3


def test_another_fusion_answers_what_it_would_have_answered(tmp_path):
    given = requests_of(40)
    record(spec_of("mean"), tmp_path / "one", given)
    other = parse_spec(spec_of("weighted_mean", weights={"a": 0.7, "b": 0.0, "c": 0.3}))
    answers = record(spec_of("weighted_mean", weights={"a": 0.7, "b": 0.0, "c": 0.3}), tmp_path / "two", given)
    revision = build_revision(other, FACTORIES)
    (rows,) = open_record(tmp_path / "one").rows()
    values = {i: v for i, v in zip(rows.ids, replay_rows(revision, rows).values, strict=True) if i.endswith("-1")}
    single = {tuple(one["x"][0]): answer.values[0] for one, answer in zip(given, answers, strict=True)}
    assert len(values) == 8
    assert all(any(np.array_equal(value, one) for one in single.values()) for value in values.values())
    found = replay(open_record(tmp_path / "one"), other, FACTORIES)
    assert (found.revision, found.exact) == (other.revision, 0)


def test_a_fusion_of_members_that_were_not_asked_is_refused(tmp_path):
    fewer = {name: MEMBERS[name] for name in "ac"}
    record({**spec_of("mean"), "members": fewer}, tmp_path, requests_of(5))
    with pytest.raises(RequestError, match="b is not in the record"):
        replay(open_record(tmp_path), parse_spec(spec_of("mean")), FACTORIES)


def labelled(tmp_path, count=300):
    """A record of which every second row has a label; ids, labels."""
    record(spec_of("mean"), tmp_path, requests_of(count, odd=False))
    random, files, truth = np.random.default_rng(5), LabelFiles(RecordFolder(tmp_path / "kept"), "0" * 12), {}
    for rows in open_record(tmp_path).rows():
        noisy = rows.fused + random.normal(scale=0.3, size=rows.fused.shape)
        for i, n, best in zip(rows.ids[::2], rows.numbers[::2], noisy.argmax(axis=1)[::2], strict=True):
            truth[i, int(n)] = int(best)
    files.append([LabelRow(i, n, "", Label((CLASSES[best],)), 0) for (i, n), best in truth.items()])
    files.close()
    return truth


def test_answers_are_judged_by_their_labels_as_scikit_learn_judges_them(tmp_path):
    truth = labelled(tmp_path)
    found = replay(open_record(tmp_path))
    (rows,) = open_record(tmp_path).rows()
    there = [at for at, key in enumerate(zip(rows.ids, rows.numbers, strict=True)) if key in truth]
    labels = [truth[rows.ids[at], rows.numbers[at]] for at in there]
    assert found.labelled == len(truth)
    for who, values in {"recorded": rows.fused, "replayed": rows.fused, "a": rows.outputs[0]}.items():
        scores = found.scores["fused", who]
        some = values[there].astype(np.float64)
        some /= some.sum(axis=1, keepdims=True)
        assert scores["log_loss"].value == pytest.approx(log_loss(labels, some, labels=[0, 1, 2]), rel=1e-5)
        assert scores["accuracy"].value == accuracy_score(labels, some.argmax(axis=1))


def test_a_record_with_labels_is_predictions_to_tune_on(tmp_path):
    truth = labelled(tmp_path)
    found = read_record(tmp_path)
    assert (found.names, found.classes, len(found)) == (("a", "b", "c"), tuple(CLASSES), len(truth))
    assert sorted(found.labels.tolist()) == sorted(truth.values())
    assert found.times is not None
    assert sorted(found.times.tolist()) == found.times.tolist()
    outputs, judged = outputs_of(found)
    assert (len(outputs), judged) == (len(truth), None)


def test_a_record_without_labels_says_how_to_give_some(tmp_path):
    record(spec_of("mean"), tmp_path, requests_of(3))
    with pytest.raises(DataError, match="quorate feedback"):
        read_record(tmp_path)
