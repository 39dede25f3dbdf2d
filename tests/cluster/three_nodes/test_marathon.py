"""Half an hour of faults of all kinds on three nodes under load, one after another; then all is as it was."""

import os
import random
import time
from collections import Counter

import pytest

from tests.cluster.three_nodes.classify import FULL
from tests.cluster.three_nodes.cluster import PLACES
from tests.cluster.three_nodes.faults import Faults, member_processes
from tests.cluster.three_nodes.machine import wait_for
from tests.cluster.three_nodes.oracle import OTHER_WEIGHTS, WEIGHTS, ensemble

MINUTES = float(os.environ.get("QUORATE_MARATHON_MINUTES", "30"))
EACH_S, HEALED_S = 10, 60
REPLICAS = 2

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(60 * MINUTES + 1800)]


def test_through_faults_of_all_kinds_no_answer_is_wrong_and_a_minute_later_all_are_in_full(nodes, deploy, seed):
    deployed = deploy(ensemble("marathon", replicas=REPLICAS))
    revisions = {deployed["revision"]: WEIGHTS}
    fusion = {"weights": OTHER_WEIGHTS}
    revisions[nodes.driver().do("publish", name="marathon", fusion=fusion)] = OTHER_WEIGHTS
    chance, made, faults = random.Random(seed), Counter[str](), Faults(nodes, "marathon", (WEIGHTS, OTHER_WEIGHTS))
    until = time.monotonic() + 60 * MINUTES
    with nodes.asking(deployed, "marathon", revisions, seed, tries=len(PLACES)) as asking:
        while time.monotonic() < until:
            kind = chance.choice(faults.kinds)
            print(f"{time.monotonic():.1f} {kind}")
            with faults.make(kind, chance):
                asking.last(EACH_S)
            faults.keep_gcs()
            made[kind] += 1
        healed = time.monotonic()
        whole = asking.all_is_well(HEALED_S)
        print(f"in full again {whole - healed:.1f} s after the last fault")
        asking.last(20)
        wait_for(lambda: len(member_processes(nodes, "marathon")) == REPLICAS * len(WEIGHTS), "none too many", 120)
    print(dict(made))
    asking.report.assert_answered(0.99)
    assert asking.report.due(since=whole).counts.keys() == {FULL}
