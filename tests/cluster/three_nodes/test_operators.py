"""What operators do at once, by mistake, or beside other people, on three nodes that serve."""

import time

import pytest

from tests.cluster.three_nodes.classify import FULL
from tests.cluster.three_nodes.cluster import PLACES
from tests.cluster.three_nodes.drivers import CommandError
from tests.cluster.three_nodes.oracle import OTHER_WEIGHTS, WEIGHTS, ensemble

pytestmark = pytest.mark.ray


def test_of_two_deploys_at_once_one_wins_whole_and_the_other_waits_or_is_told(nodes, served, seed):
    wanted = {1: (WEIGHTS, {"version": 1}), 2: (OTHER_WEIGHTS, {"version": 2})}
    specs = {place: ensemble("served", weights, config=config) for place, (weights, config) in wanted.items()}
    revisions = {served["revision"]: WEIGHTS}
    with nodes.asking(served, "served", revisions, seed) as asking:
        for place, spec in specs.items():
            nodes.driver(place).send("deploy", spec=spec)
        won, told = [], []
        for place, (weights, _) in wanted.items():
            try:
                won.append(nodes.driver(place).reply()["revision"])
                revisions[won[-1]] = weights
            except CommandError as error:
                told.append(str(error))
        ended = time.monotonic()
        asking.answered(60)
    assert won
    assert all("ConflictError: 'served' is being changed: a deployment by" in error for error in told)
    asking.report.assert_answered()
    after = asking.report.due(since=ended)
    assert after.counts == {FULL: len(after.requests)}
    (live,) = {request.line["revision"] for request in after.requests}
    assert live in won
    assert {door["revision"] for door in nodes.driver().do("fusion", name="served")} == {live}


def test_a_port_of_another_ensemble_is_refused_with_its_owners_name(nodes, served, deploy):
    port = int(served["http"].rpartition(":")[2])
    with pytest.raises(CommandError, match=r"DeployError: .*is a door of ensemble 'served'.*quorate down served"):
        deploy(ensemble("other", {"a": 1.0}), http_port=port)
    assert nodes.driver().do("ensembles") == ["served"]


def test_down_takes_down_all_ensembles_and_leaves_other_peoples_applications_alone(nodes, served):
    nodes.driver().do("run_foreign", name="served.alike")
    down = nodes.quorate(PLACES[1], "down")
    said = down.communicate(timeout=120)[0]
    assert (said.split(), down.returncode) == (["stopped", "served"], 0)
    assert nodes.driver().do("applications") == {"served.alike": "RUNNING"}
    assert nodes.driver().do("ask_foreign", name="served.alike") == "pong"
    nodes.driver().do("stop_foreign", name="served.alike")
