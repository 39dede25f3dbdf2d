"""A member of a running ensemble breaks: the metric, the log, the webhook, the page and the report say which."""

import re
from pathlib import Path

import httpx
import numpy as np
import pytest

from quorate.deployments import Client, parse_spec
from tests.deployments.support.drifting_ensemble import asked_rows, drifting_spec
from tests.deployments.support.waiting import until
from tests.deployments.support.webhook_receiver import webhook_receiver

FACTORIES = Path(__file__).parents[1] / "support" / "factories"
LITTLE = {"num_cpus": 0.1}


@pytest.fixture(scope="module")
def hook():
    with webhook_receiver() as found:
        yield found


@pytest.fixture(scope="module")
def deployed(cluster, hook, tmp_path_factory):
    from quorate.deployments.control.deploy import delete, deploy

    drift = {"rows": 100, "webhook": hook[1]}
    record = {"folder": str(tmp_path_factory.mktemp("record"))}
    spec = drifting_spec("drifts", drift, {"resources": LITTLE}, record=record, serving={"resources": LITTLE})
    yield deploy(parse_spec(spec), FACTORIES)
    delete("drifts")


def ask(deployed, rows):
    with Client(deployed.http, model="drifts") as client:
        for row in rows:
            client.infer(x=row[None])


def told():
    from quorate.deployments.control.drift import drift_of

    return drift_of("drifts")


def shown_on_the_page(deployed):
    """What the page at / makes of the metrics, by the pattern that its script has."""
    script = httpx.get(deployed.http).text
    pattern = re.search(r"/(\^quorate_drift.*?\$)/gm", script)
    assert pattern is not None
    metrics = httpx.get(f"{deployed.http}/metrics").text
    return {
        member: statistic
        for member, statistic, count in re.findall(pattern[1], metrics, re.MULTILINE)
        if float(count) and statistic == "disagreement"
    }


def test_a_member_that_breaks_is_named_wherever_one_looks(deployed, hook):
    from quorate.deployments.control.member_logs import logs_on_nodes

    random = np.random.default_rng(0)
    until(lambda: told().doors == 1)

    def learned():
        ask(deployed, asked_rows(random, 50))
        return told().outputs[""]["answers_learned"] is None

    until(learned)
    ask(deployed, asked_rows(random, 200))
    assert not told().drifted

    def broke():
        ask(deployed, asked_rows(random, 50, broken=1))
        return shown_on_the_page(deployed) == {"first": "disagreement"}

    until(broke)
    until(lambda: told().drifted)
    (output,) = told().outputs.values()
    assert "first" in {one["member"] for one in output["named"] if one["kind"] == "disagreement"}
    until(lambda: hook[0])
    assert "first" in {one["member"] for said in hook[0] for one in said["named"]}
    assert {one["member"] for said in hook[0] for one in said["named"] if one["kind"] == "disagreement"} <= {"first"}
    said = [log.text for log in logs_on_nodes(("drifts",), "@doors")[0]]
    assert any("first is another than it was (disagreement" in text for text in said)


def test_a_shadow_has_a_reference_of_its_own_or_none():
    from quorate.deployments.control.shadows import _with_what_is_beside

    live = parse_spec(drifting_spec("e", {"reference": "drift-tuned.json", "rows": 500}))
    for own, wanted in (({"reference": "drift-pool.json"}, "drift-pool.json"), (None, None), ({}, None)):
        shadow = _with_what_is_beside(parse_spec(drifting_spec("e", own)), live)
        assert shadow.drift is not None
        assert (shadow.drift.reference, shadow.drift.rows) == (wanted, 500)
