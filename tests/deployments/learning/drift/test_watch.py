"""Drift behind real doors: a member breaks, and is named."""

import logging

import httpx
import numpy as np
import pytest

from quorate.deployments.client.client import Client
from quorate.deployments.learning.drift import watch
from tests.deployments.support.drifting_ensemble import asked_rows, drifting_spec
from tests.deployments.support.factories.drifting import CLASSES
from tests.deployments.support.waiting import until
from tests.deployments.support.webhook_receiver import webhook_receiver


@pytest.fixture(scope="module", autouse=True)
def _every_answer_is_looked_at():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "EVERY_S", 0.0)
        yield


def ask(doors, name, rows):
    with Client(doors.http, model=name) as client:
        for row in rows:
            client.infer(x=row[None])


def series(doors, name):
    """Values above 0 by member and kind."""
    found = {}
    for line in httpx.get(f"{doors.http}/metrics").text.splitlines():
        if line.startswith(f"{name}{{") and float(line.rpartition(" ")[2]) > 0:
            labels = dict(part.split("=") for part in line[len(name) + 1 : line.index("}")].split(","))
            found[labels["member"].strip('"'), labels["statistic"].strip('"')] = float(line.rpartition(" ")[2])
    return found


def test_a_member_that_breaks_is_named_in_metrics_and_log(open_doors, caplog):
    doors = open_doors(drifting_spec("watched", {"rows": 200, "statistics": ["disagreement"]}))
    random = np.random.default_rng(0)
    ask(doors, "watched", asked_rows(random, 500))
    assert series(doors, "quorate_drift") == {}
    with caplog.at_level(logging.WARNING):
        ask(doors, "watched", asked_rows(random, 200, broken=2))
        until(lambda: series(doors, "quorate_drift") == {("second", "disagreement"): 1})
        until(lambda: "second is another than it was" in caplog.text)
    assert series(doors, "quorate_drift_alarms_total") == {("second", "disagreement"): 1}
    assert "first is another" not in caplog.text


@pytest.fixture
def received():
    with webhook_receiver(fails=1) as found:
        yield found


def test_an_alarm_is_sent_to_the_webhook_until_it_takes_it(open_doors, received, monkeypatch):
    found, url = received
    monkeypatch.setattr("quorate.deployments.learning.drift.webhook.TRIES_S", (0.0, 0.0, 0.0))
    drift = {"rows": 100, "statistics": ["disagreement"], "webhook": url}
    doors = open_doors(drifting_spec("hooked", drift))
    random = np.random.default_rng(0)
    ask(doors, "hooked", np.concatenate([asked_rows(random, 200), asked_rows(random, 100, broken=3)]))
    until(lambda: len(found) >= 2)
    assert found[0] == found[1]
    said = found[1]
    assert (said["ensemble"], said["revision"]) == ("hooked", doors.engine.revision.name)
    assert [one["member"] for one in said["named"]] == ["third"]
    assert "third is another than it was" in said["text"]
    assert {tuple(one["members"]) for one in said["changes"]} == {("first", "third"), ("second", "third")}
    counted = 'quorate_drift_webhooks_total{ensemble="hooked",outcome="sent"} 1.0'
    until(lambda: counted in httpx.get(f"{doors.http}/metrics").text)


def test_labels_that_come_to_a_door_are_looked_at(open_doors, tmp_path, monkeypatch):
    monkeypatch.setattr("quorate.deployments.learning.drift.watched_outputs.LABELS_S", 0.0)
    spec = drifting_spec("judged", {"rows": 100, "statistics": ["loss"]}, record={"folder": str(tmp_path)})
    doors = open_doors(spec)
    random = np.random.default_rng(0)
    told = doors.server.drift

    def label(rows, right):
        with Client(doors.http, model="judged") as client:
            for row in rows:
                answer = client.infer(x=row[None])
                best = int(answer.outputs["fused"].argmax())
                client.feedback(answer, [CLASSES[best if right else (best + 1) % 3]])

    label(asked_rows(random, 150), right=True)
    until(lambda: told()["outputs"][""]["labelled"] == 150)
    assert told()["outputs"][""]["named"] == []
    label(asked_rows(random, 60), right=False)
    until(lambda: drifted_by(doors, "loss") == {"": 1, "first": 1, "second": 1, "third": 1})


def drifted_by(doors, kind):
    return {member: count for (member, of), count in series(doors, "quorate_drift").items() if of == kind}


def test_a_door_that_starts_again_knows_what_the_first_answers_were_like(open_doors, tmp_path):
    drift = {"rows": 100, "statistics": ["confidence"]}
    doors = open_doors(drifting_spec("learned", drift, record={"folder": str(tmp_path)}))
    random = np.random.default_rng(0)
    assert doors.server.drift()["outputs"][""]["answers_learned"] == 0
    ask(doors, "learned", asked_rows(random, 120))
    until(lambda: doors.server.drift()["outputs"][""]["answers_learned"] is None)
    kept = tmp_path / "learned" / "revisions" / doors.engine.revision.name / "drift.json"
    until(kept.exists)
    doors.server.stop()
    doors.restart()
    until(lambda: doors.server.drift()["outputs"])
    assert doors.server.drift()["outputs"][""]["answers_learned"] is None


def test_answers_that_the_thread_has_no_time_for_are_given_and_not_watched_and_counted(open_doors, monkeypatch):
    monkeypatch.setattr(watch, "WAITING_BYTES", -1)
    doors = open_doors(drifting_spec("slow", {}))
    ask(doors, "slow", asked_rows(np.random.default_rng(0), 20))
    counted = 'quorate_drift_answers_total{ensemble="slow",outcome="dropped"} 20.0'
    until(lambda: counted in httpx.get(f"{doors.http}/metrics").text)


def test_each_of_several_outputs_is_watched_by_itself(open_doors):
    spec = drifting_spec("two", {"rows": 100, "statistics": ["disagreement", "confidence"]})
    mean = {"rule": "mean", "deadline_s": 5.0}
    spec |= {"fusions": {"all": mean, "few": {**mean, "members": ["first", "third"]}}, "outputs": ["all", "few"]}
    del spec["fusion"]
    spec["fusions"]["all"] = {**mean, "members": ["first", "second", "third"]}
    doors, random = open_doors(spec), np.random.default_rng(0)
    ask(doors, "two", asked_rows(random, 150))
    until(lambda: {one["answers"] for one in doors.server.drift()["outputs"].values()} == {150})
    ask(doors, "two", asked_rows(random, 100, broken=2))

    def named():
        outputs = doors.server.drift()["outputs"]
        return {name: {one["member"] for one in found["named"]} for name, found in outputs.items()}

    until(lambda: "second" in named()["all"])
    assert named()["few"] == set()
