"""Shadows of a running ensemble: on all doors, after a restart of one too, and from there into what is live."""

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quorate.deployments import Client, parse_spec
from quorate.deployments.errors import DeployError, ShadowError
from tests.deployments.support.known_answers import two_known
from tests.deployments.support.waiting import until

FACTORIES = Path(__file__).parents[1] / "support" / "factories"
ROWS = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
LITTLE = {"num_cpus": 0.1}
SPEC: dict[str, Any] = {
    **two_known("watched", resources=LITTLE),
    "serving": {"replicas": {"min": 2, "max": 2}, "resources": LITTLE},
}


def weighted(weight, **changed):
    return parse_spec({**SPEC, "fusion": {**SPEC["fusion"], "weights": {"a": weight, "b": 1 - weight}}, **changed})


@pytest.fixture(scope="module")
def deployed(cluster):
    from quorate.deployments.control.deploy import delete, deploy

    yield deploy(weighted(0.5), FACTORIES)
    delete("watched")


@pytest.fixture
def no_shadow_stays(deployed):
    from quorate.deployments.control.shadows import recorded_shadows, remove_shadow

    yield
    for one in recorded_shadows("watched").shadows:
        remove_shadow("watched", one.spec.revision)


pytestmark = pytest.mark.usefixtures("no_shadow_stays")


def ask(deployed, times=20):
    for _ in range(times):  # each new connection may meet another door
        with Client(deployed.http, model="watched") as client:
            client.infer(x=ROWS)


def states():
    from quorate.deployments.control.shadows import recorded_shadows, shadow_states

    return shadow_states(recorded_shadows("watched"))


def rows(revision):
    return states().shadows[revision].outputs[""].rows


def doors():
    from quorate.deployments.control.describe import describe_fusion

    return describe_fusion("watched")


def test_all_doors_compute_a_shadow_also_one_that_has_started_again(deployed):
    from quorate.deployments.control.shadows import add_shadow

    shadow = add_shadow(weighted(0.75), FACTORIES).spec.revision
    assert shadow in states().shadows
    ask(deployed)
    until(lambda: rows(shadow) == 100)
    found = states()
    assert (found.doors, found.silent, found.dropped_rows) == (2, 0, 0)
    killed = doors()[0]["pid"]
    os.kill(killed, signal.SIGKILL)
    until(lambda: Counter(one["pid"] == killed for one in doors()) == {False: 2})
    until(lambda: states().doors == 2 and states().shadows[shadow].outputs)

    def both_count():
        ask(deployed, 5)
        return rows(shadow) > 100

    until(both_count)


def test_what_is_promoted_is_live_at_once_and_a_rollback_goes_back(deployed):
    from quorate.deployments.control.deploy import promote_shadow, rollback
    from quorate.deployments.control.shadows import add_shadow, recorded_shadows

    before = recorded_shadows("watched").live.spec.revision
    shadow, other = (add_shadow(weighted(weight), FACTORIES).spec.revision for weight in (0.1, 0.2))
    members = {name: member["pid"] for name, member in _members().items()}
    assert promote_shadow("watched", shadow[:6]) == shadow
    with Client(deployed.http, model="watched") as client:
        assert client.infer(x=ROWS).parameters["revision"] == shadow
    assert [one.spec.revision for one in recorded_shadows("watched").shadows] == [other]
    assert states().live == shadow
    assert {name: member["pid"] for name, member in _members().items()} == members
    rollback("watched")
    assert states().live == before
    assert [*states().shadows] == [other]


def _members():
    from quorate.deployments.control.describe import describe_members

    return {name: found[0] for name, found in describe_members("watched").items()}


def test_what_is_no_shadow_is_refused_in_words_and_nothing_changes(deployed):
    from quorate.deployments.control.shadows import add_shadow, recorded_shadows, remove_shadow

    number = recorded_shadows("watched").number
    others = {**SPEC["members"], "b": {**SPEC["members"]["b"], "config": {"shift": 9}}}
    for spec, why in (
        (weighted(0.5), "it is live"),
        (weighted(0.3, members=others), "b would be asked for it alone; say for which share of the requests"),
        (weighted(0.3, classes=["red", "green", "grey"]), "its inputs, classes, outputs or serving"),
    ):
        with pytest.raises(ShadowError, match=why):
            add_shadow(spec, FACTORIES)
    with pytest.raises(ShadowError, match="all of its members are asked anyway"):
        add_shadow(weighted(0.3), FACTORIES, share=0.1)
    with pytest.raises(ShadowError, match="there are no shadows"):
        remove_shadow("watched", "abc")
    assert recorded_shadows("watched").number == number


def with_a_third(**third):
    """A third member in the place of ``b``."""
    member = {**SPEC["members"]["a"], "config": {"shift": 3}, **third}
    members = {"a": SPEC["members"]["a"], "c": member}
    fusion = {**SPEC["fusion"], "weights": {"a": 0.5, "c": 0.5}}
    return parse_spec({**SPEC, "members": members, "fusion": fusion, "shadow_share": 1.0})


def asked(revision):
    return states().shadows[revision].asked["c"].rows


def test_a_member_that_only_a_shadow_asks_runs_with_it_and_goes_live_as_it_is(deployed):
    from quorate.deployments.control.deploy import promote_shadow, rollback
    from quorate.deployments.control.describe import applications, describe
    from quorate.deployments.control.shadows import add_shadow, recorded_shadows

    before = recorded_shadows("watched").live.spec.revision
    added = add_shadow(with_a_third(), FACTORIES)
    shadow, app = added.spec.revision, added.apps["c"]
    assert (added.own, added.share) == (("c",), 1.0)
    assert app in applications("watched")
    assert "c" not in _members()  # it is none of what answers

    def all_doors_ask():
        ask(deployed, 5)
        return asked(shadow) > 25 and rows(shadow) > 25

    until(all_doors_ask)
    (pid,) = (one["pid"] for one in describe([app]))
    promote_shadow("watched", shadow)
    assert _members()["c"]["pid"] == pid
    with Client(deployed.http, model="watched") as client:
        assert client.infer(x=ROWS).parameters["members_used"] == "a,c"
    rollback("watched")
    assert states().live == before
    until(lambda: app not in applications("watched"))


def test_its_member_goes_with_the_shadow_and_where_it_does_not_start_nothing_stays(deployed):
    from quorate.deployments.control.describe import applications
    from quorate.deployments.control.shadows import add_shadow, recorded_shadows, remove_shadow

    running, number = applications("watched"), recorded_shadows("watched").number
    for wrong, why in (
        ({"config": {"shift": "none"}}, "c: "),
        ({"resources": {"num_cpus": 1000}}, "no place for c, which the shadow asks alone"),
    ):
        with pytest.raises(DeployError, match=why):
            add_shadow(with_a_third(**wrong), FACTORIES)
        until(lambda: applications("watched") == running)
    assert recorded_shadows("watched").number == number
    added = add_shadow(with_a_third(), FACTORIES)
    remove_shadow("watched", added.spec.revision)
    until(lambda: applications("watched") == running)
