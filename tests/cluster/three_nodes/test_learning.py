"""What comes back on three nodes, under faults: no label that was acknowledged is lost, and no answer is harmed."""

import pytest

from quorate.deployments.learning.reading import open_record
from tests.cluster.three_nodes.classify import DEGRADED, FULL
from tests.cluster.three_nodes.cluster import HEAD, PLACES
from tests.cluster.three_nodes.faults import kill_door
from tests.cluster.three_nodes.machine import address, wait_for
from tests.cluster.three_nodes.oracle import ensemble

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]

LIVE, SHADOW = {"a": 0.7, "b": 0.3}, {"a": 0.5, "c": 0.5}
AWAY_S = 20


class Labelling:
    """An ensemble with a record that every node sees, and those who say what was true of its answers.

    Attributes:
        acknowledged: answers whose label was taken.
    """

    def __init__(self, nodes, deploy, seed):
        self._driver, self.folder = nodes.driver(), nodes.folder / f"record{seed}"
        spec = {**ensemble("learning", LIVE), "record": {"folder": str(self.folder)}}
        self.deployed = deploy(spec, takes_labels=True)
        port = self.deployed["http"].rpartition(":")[2]
        self._doors = [f"http://{address(place)}:{port}" for place in PLACES]
        self.acknowledged: set[str] = set()

    def label(self, asking):
        """Label all answers that have no label yet, each at the next door; returns how many were taken."""
        new = [answer for answer in asking.answers() if answer not in self.acknowledged]
        taken = self._driver.do("label", doors=self._doors, model="learning", answers=new)
        self.acknowledged.update(taken)
        return len(taken)

    def assert_kept(self):
        """Every label that was acknowledged is in the record, once."""
        labels = open_record(self.folder / "learning").labels()
        assert {answer for answer, _, _ in labels.found} >= self.acknowledged
        assert labels.contradicting == 0


@pytest.fixture
def labelling(nodes, deploy, seed):
    return Labelling(nodes, deploy, seed)


def test_a_dying_door_loses_no_acknowledged_label_and_a_shadow_that_asks_harms_no_answer(nodes, labelling, seed):
    driver, deployed = nodes.driver(), labelling.deployed
    _, app = driver.do("shadow", spec=ensemble("learning", SHADOW), share=1.0)
    place = next(place for place in PLACES if place != HEAD)
    with nodes.asking(deployed, "learning", {deployed["revision"]: LIVE}, seed) as asking:
        asking.answered(40)
        wait_for(lambda: driver.do("shadow_rows", name="learning")[2] > 0, "its own member is asked")
        assert labelling.label(asking) > 0
        kill_door(nodes, "learning", place)
        asking.answered(20)
        assert labelling.label(asking) > 0
        asking.door_answers(address(place))
        asking.answered(40)
        assert labelling.label(asking) > 0
        wait_for(lambda: driver.do("shadow_rows", name="learning")[0] == len(PLACES), "all doors have the shadow")
    asking.report.assert_answered(0.999)
    assert asking.report.counts[DEGRADED] == 0
    labelling.assert_kept()
    told, compared, asked, failed = driver.do("shadow_rows", name="learning")
    print(f"{len(labelling.acknowledged)} labels, {compared} rows compared, {asked} asked about, {failed} failed")
    assert (told, failed) == (len(PLACES), 0)
    assert 0 < compared <= asked
    assert driver.do("applications")[app] == "RUNNING"
    driver.do("down", name="learning")
    wait_for(lambda: app not in driver.do("applications"), "its own member is gone, too")


def test_while_the_gcs_is_away_answers_are_recorded_and_labels_taken(nodes, labelling, seed):
    if not nodes.with_redis:
        pytest.skip("needs redis-server, for a GCS that comes back with what it knew")
    deployed = labelling.deployed
    with nodes.asking(deployed, "learning", {deployed["revision"]: LIVE}, seed) as asking:
        asking.answered(20)
        command = nodes.kill_gcs()
        try:
            asking.last(AWAY_S)
            asked = len(asking.answers())
            assert asked / 2 < labelling.label(asking) == len(labelling.acknowledged)
        finally:
            nodes.start_gcs(command)
        wait_for(lambda: len([up for up in nodes.driver().do("nodes").values() if up]) == len(PLACES), "all nodes", 90)
    asking.report.assert_answered()
    assert asking.report.counts[FULL] == len(asking.report.requests)
    labelling.assert_kept()
