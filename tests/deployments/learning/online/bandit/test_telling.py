"""What a bandit that learns has come to, as a status, a page and Prometheus tell it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from quorate.deployments.learning.online.report import at_doors, brief, lines, read_report, tables
from quorate.deployments.learning.online.state import OnlineState, Publication
from quorate.deployments.metrics.online_learning import online_metrics
from tests.deployments.support.policy_streams import BROKEN, World, fitted, served

PAGE = Path(__file__).parents[5] / "deployments" / "server" / "http" / "page.js"


@pytest.fixture(scope="module")
def learner():
    random = np.random.default_rng(1)
    return served(fitted(World(), random), [(World(), 500), (BROKEN, 2500)], random).learner


@pytest.fixture(scope="module")
def report(learner):
    told = {"fused": {name: value for name, value in learner.changes[0].items() if name != "time_us"}}
    state = OnlineState(begun=Publication("f", "r", 0, False, {}, {"fused": 0.1}, {"fused": 9}, told))
    state.went_live(learner.changes[0]["time_us"])
    found = {
        "mode": "live", "publish_every": "10m", "revision": "r", "labels": learner.labels, "left_out": {},
        "trouble": "", "outputs": [learner.report()],
    }  # fmt: skip
    return read_report(json.dumps({"state": state.to_json(), "report": found}).encode())


def test_a_status_says_what_is_asked_how_right_it_is_and_what_went_live(report):
    (title, stands) = lines(brief(report))
    assert title.startswith(
        f"whom to ask is learned live, at most every 10m: {report['labels']} labels; published 1 times"
    )
    for words in ("of 3 members a row are asked", "the floor", "a gain of"):
        assert words in stands
    through, went_live = tables(report)
    assert "everybody is asked, since the floor was broken" in through.lines[0]
    assert went_live.columns[-1] == "right a row, less what is asked"


def test_what_the_page_reads_of_a_bandit_is_there(report):
    policy = at_doors(report)["outputs"][0]["policy"]
    script = PAGE.read_text()
    part = script[script.index("function policyRows") : script.index("function regretRows")]
    assert set(re.findall(r"\bpolicy\.(\w+)", part)) <= set(policy)
    assert set(re.findall(r"\bat\.(\w+)", part)) <= set(policy["points"][0])


def test_prometheus_is_told_of_its_accuracy_beside_the_floor(report):
    policy = report["outputs"][0]["policy"]
    values = {
        (one.name, *labels.values()): value
        for metric in online_metrics("e", report)
        for one in metric.samples
        for labels, value in [(one.labels, one.value)]
    }
    assert values["quorate_online_members_asked", "e", "fused", "live"] == policy["asked"]
    floor = values["quorate_online_accuracy", "e", "fused", "floor"]
    assert floor == pytest.approx(policy["everyone"] - 0.02)


def test_means_through_time_are_bounded_however_many_labels_come(learner):
    points = learner.report()["policy"]["points"]
    labels = [one["labels"] for one in points]
    assert labels == sorted(set(labels))
    assert labels[-1] == learner.labels
    assert len(points) <= 101


def test_who_comes_after_a_process_that_was_making_one_live_knows_it_was(learner):
    told = {"fused": {name: value for name, value in learner.changes[0].items() if name != "time_us"}}
    state = OnlineState(begun=Publication("f", "r", 0, False, {}, {"fused": 0.1}, {"fused": 9}, told))
    again = OnlineState.from_json(json.dumps({"state": state.to_json()}).encode())
    again.take_over(again.went_live(77))
    assert again.policies == {"fused": [{**told["fused"], "time_us": 77}]}
    assert again.live == "f"
