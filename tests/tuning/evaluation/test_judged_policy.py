"""A bandit is judged on recorded answers before it goes live."""

import asyncio

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from quorate.deployments import parse_spec
from quorate.deployments.errors import RequestError
from quorate.deployments.learning.folder import RecordFolder
from quorate.deployments.learning.label_files import LabelFiles, LabelRow
from quorate.deployments.learning.labels import Label
from quorate.deployments.learning.reading import open_record
from quorate.deployments.learning.recorder import Recorder
from quorate.deployments.spec.fields.record import RecordSpec
from quorate.fusion import fit_bandit
from quorate.tuning.evaluation.replay import replay
from tests.deployments.support.known_answers import known_answers
from tests.deployments.support.member_threads import FACTORIES, running
from tests.deployments.support.uncounted import Uncounted

NAMES, CLASSES = ("a", "b", "c"), ("red", "green", "blue")
ROWS = np.random.default_rng(1).normal(size=(400, 2)).astype(np.float32) * 1.5
SHIFTS = {"a": 2.0, "b": 0.3, "c": 0.0}
SAID = np.stack([known_answers(ROWS, SHIFTS[name]) for name in NAMES])
TRUE = known_answers(ROWS, 0.0).argmax(axis=1)
MEMBERS = {
    name: {"model": "known:known", "config": {"shift": shift}, "inputs": ["x"], "output": "probabilities"}
    for name, shift in SHIFTS.items()
}


def spec(fusion):
    inputs = {"x": {"datatype": "FP32", "shape": [2]}}
    fusion = {"members": list(NAMES), "deadline_s": 5.0, **fusion}
    return {"name": "three", "inputs": inputs, "classes": list(CLASSES), "members": MEMBERS, "fusion": fusion}


def bandit(folder, explore, price):
    outputs, labels = torch.from_numpy(SAID).float(), torch.from_numpy(TRUE)
    arms = [[], ["b"], ["b", "c"]]
    rule = fit_bandit(NAMES, ["a"], arms, outputs, labels, explore=explore).at_price(price)
    path = folder / f"{explore}-{price}.safetensors"
    save_file(rule.state(), path)
    return spec({"rule": "bandit", "options": rule.options, "state": str(path)}), rule


def recorded(folder, served):
    async def scenario():
        async with running(served) as engine:
            kept = RecordSpec(folder=str(folder))
            keeper = engine.answers.keeper = Recorder("three", kept, engine.answers.replica, Uncounted())
            answers = await asyncio.gather(*(engine.infer({"x": row[None]}) for row in ROWS))
            await asyncio.to_thread(keeper.close)
            return answers

    answers = asyncio.run(scenario())
    files = LabelFiles(RecordFolder(f"{folder}/three"), answers[0].id.partition("-")[0])
    files.announce()
    named = zip(answers, TRUE.tolist(), strict=True)
    files.append([LabelRow(one.id, 0, "", Label((CLASSES[label],)), 1) for one, label in named])
    files.close()
    return open_record(f"{folder}/three")


def earned(rule):
    """Exactly, and how many members a row it asks."""
    outputs, everyone = torch.from_numpy(SAID).float(), torch.ones(3, len(ROWS), dtype=torch.bool)
    chances = rule.chances(outputs, everyone).numpy()
    right = (rule.answers(outputs).argmax(dim=2).numpy() == TRUE).T
    return (chances * right).sum(axis=1).mean(), chances.mean(axis=0) @ [1, 2, 3]


def test_where_everybody_answered_it_is_known_exactly_what_a_bandit_would_have_earned(tmp_path):
    record = recorded(tmp_path, spec({"rule": "mean"}))
    other, rule = bandit(tmp_path, 0.1, 0.05)
    policy = replay(record, parse_spec(other), FACTORIES).policy
    assert policy is not None
    accuracy, asks = earned(rule)
    assert (policy.rows, policy.exact) == (400, 400)
    assert (policy.accuracy, policy.asks) == pytest.approx((accuracy, asks), abs=1e-6)
    assert policy.answered == pytest.approx((SAID.mean(axis=0).argmax(axis=1) == TRUE).mean(), abs=1e-6)
    assert policy.least < policy.accuracy < policy.most
    assert policy.asked == 3


def test_where_a_bandit_asked_some_another_is_judged_by_the_chances_it_had(tmp_path):
    served, _ = bandit(tmp_path, 0.4, 0.3)
    record = recorded(tmp_path, served)
    other, rule = bandit(tmp_path, 0.0, -2.0)  # everybody, always
    policy = replay(record, parse_spec(other), FACTORIES).policy
    assert policy is not None
    assert policy.rows == 400
    assert 40 < policy.exact < 330
    accuracy, asks = earned(rule)
    assert policy.least < accuracy < policy.most
    assert policy.accuracy == pytest.approx(accuracy, abs=0.05)
    assert policy.asks == pytest.approx(asks)
    assert policy.asked < 2.7
    said = replay(record, parse_spec(other), FACTORIES).tables()[0].lines
    assert any(line.startswith("bandit: accuracy") for line in said)


def test_answers_whose_classes_had_another_order_tell_nothing_of_a_bandit(tmp_path):
    record = recorded(tmp_path, spec({"rule": "mean"}))
    other, _ = bandit(tmp_path, 0.1, 0.05)
    turned = {**other, "classes": list(reversed(CLASSES))}
    with pytest.raises(RequestError, match="had other classes, or the same in another order"):
        replay(record, parse_spec(turned), FACTORIES)


def test_a_record_says_whom_a_bandit_would_have_learned_to_ask(tmp_path):
    other, _ = bandit(tmp_path, 0.3, 0.0)
    other["fusion"]["options"] |= {"max_loss": 0.1}
    found = replay(recorded(tmp_path, other), online=True)
    assert found.online == {}
    report = found.bandits["fused"].report
    assert report["labels"] == 400
    policy = report["policy"]
    whole = (SAID.mean(axis=0).argmax(axis=1) == TRUE).mean()
    assert policy["everyone"] == pytest.approx(whole, abs=0.06)
    assert policy["points"][-1]["labels"] == 400
    assert found.to_dict()["online"][0]["policy"]["asked"] == policy["asked"]
    printed = str(found)
    for words in ("whom to ask, learned from 400 labels", "the floor", "live"):
        assert words in printed


def test_its_own_answers_are_the_same_again(tmp_path):
    served, _ = bandit(tmp_path, 0.3, 0.02)
    again = replay(recorded(tmp_path, served))
    assert (again.exact, again.rows) == (400, 400)
