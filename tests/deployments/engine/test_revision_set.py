"""Which revision answers, and how long members of an old one stay connected."""

import pytest

from quorate.deployments import parse_spec
from quorate.deployments.engine.revision_set import RevisionSet
from quorate.deployments.errors import RequestError, UnavailableError
from quorate.deployments.metrics.latency_histogram import LatencyHistogram
from quorate.deployments.routing.replica import Address
from quorate.deployments.routing.terms import FAIR_SHARE, Terms


class FakeMember:
    def __init__(self, name):
        self.name = name
        self.reconciled, self.closed, self.addresses = 0, False, None

    def ready(self):
        return 1

    def reconcile(self):
        self.reconciled += 1

    def set_replicas(self, addresses):
        self.addresses = addresses

    def close(self):
        self.closed = True


class Connections:
    """Every member that was ever connected."""

    def __init__(self):
        self.made = []

    def __call__(self, name):
        self.made.append(FakeMember(name))
        return self.made[-1]


def spec(weight=0.5, members=("a", "b"), **fusion):
    return parse_spec(
        {
            "name": "pair",
            "inputs": {"x": {"datatype": "FP32", "shape": [3]}},
            "classes": ["yes", "no"],
            "members": {name: {"model": "m:build", "inputs": ["x"]} for name in members},
            "fusion": {
                "rule": "weighted_mean",
                "weights": dict(zip(members, [weight, 1 - weight], strict=True)),
                "deadline_s": 2.0,
                **fusion,
            },
        }
    )


@pytest.fixture
def connections():
    return Connections()


@pytest.fixture
def revisions(connections, tmp_path):
    return RevisionSet(spec(), tmp_path, connections)


def names(revisions):
    return revisions.live.revision.name


def test_a_prepared_revision_answers_only_who_means_it_until_it_is_committed(revisions):
    old = names(revisions)
    new = revisions.prepare(spec(0.25), None, None).revision.name
    assert names(revisions) == old
    assert revisions.choose().revision.name == old
    assert revisions.get(new).revision.name == new
    revisions.commit(new)
    assert names(revisions) == new
    assert revisions.get(new).revision.name == new


@pytest.mark.parametrize(
    "use", [RevisionSet.get, RevisionSet.commit, lambda revisions, name: revisions.start_canary(name, 0.1)]
)
def test_a_revision_that_is_gone_is_neither_asked_nor_used(revisions, use):
    new = revisions.prepare(spec(0.25), None, None).revision.name
    live = revisions.live
    revisions.discard(new)
    with pytest.raises(UnavailableError, match=f"revision {new} is neither live nor prepared here"):
        use(revisions, new)
    assert revisions.live is live
    assert revisions.choose() is live


def test_a_revision_prepared_after_a_canary_takes_its_requests_from_it(revisions, connections):
    canary = revisions.prepare(spec(0.25), None, {"a": "a", "b": "b2"})
    revisions.start_canary(canary.revision.name, 1.0)
    assert revisions.choose() is canary
    revisions.prepare(spec(0.75), None, None)
    assert revisions.choose() is revisions.live
    revisions.reconcile()
    assert not any(member.closed for member in connections.made)  # what it was asked may still be under way


def test_committing_the_live_revision_again_changes_nothing(revisions):
    live = revisions.live
    revisions.commit(live.revision.name)
    assert revisions.live is live


def test_a_revision_shares_the_members_of_the_live_one(revisions, connections):
    revisions.prepare(spec(0.25), None, None)
    assert [member.name for member in connections.made] == ["a", "b"]


def test_a_revision_that_changes_more_than_the_fusion_is_refused(revisions):
    other = spec().model_copy(update={"inputs": {}})
    with pytest.raises(RequestError, match="deploy the spec"):
        revisions.prepare(other, None, None)


def test_members_of_a_retired_revision_stay_until_its_last_batch_must_have_ended(revisions, connections, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("quorate.deployments.engine.revision_set.time.monotonic", lambda: now[0])
    new = revisions.prepare(spec(0.25), None, {"a": "a", "b": "b2"}).revision.name
    revisions.commit(new)
    [old_b] = [member for member in connections.made if member is not revisions.live.members["a"]][:1]
    now[0] += 2.9  # its deadline and a second
    assert revisions.reconcile() == []
    assert not old_b.closed
    now[0] += 0.2
    assert revisions.reconcile() == [("b", "b")]
    assert old_b.closed
    assert revisions.asks("b")  # of the new application
    assert not any(member.closed for member in revisions.live.members.values())


def test_replicas_are_announced_to_the_member_of_their_application(revisions, connections):
    revisions.prepare(spec(0.25), None, {"a": "a", "b": "b2"})
    address = Address("r", "node")
    revisions.set_replicas("b2", {"r": address})
    revisions.set_replicas("unknown", {"r": address})
    assert [member.addresses for member in connections.made] == [None, None, {"r": address}]


def test_a_canary_gets_its_share_of_requests_and_of_those_that_name_members_none(revisions, monkeypatch):
    new = revisions.prepare(spec(0.25), None, None).revision.name
    draws = iter([0.1, 0.29, 0.3, 0.9])
    monkeypatch.setattr("quorate.deployments.engine.revision_set.random.random", lambda: next(draws))
    live = names(revisions)
    assert revisions.choose().revision.name == live
    revisions.start_canary(new, 0.3)
    assert revisions.choose(named=True).revision.name == live
    assert [revisions.choose().revision.name for _ in range(4)] == [new, new, live, live]


def test_outcomes_are_counted_while_there_is_a_canary(revisions):
    live = revisions.live
    canary = revisions.prepare(spec(0.25), None, None)
    revisions.count(live, "full", 0.1)
    revisions.start_canary(canary.revision.name, 0.5)
    revisions.count(live, "degraded", 0.2)
    revisions.count(canary, "quorum", 0.3)
    revisions.count(canary, "invalid", 0.3)
    found = revisions.outcomes()
    assert found[live.revision.name] == {
        "answers": 1,
        "degraded": 1,
        "errors": 0,
        "latencies": LatencyHistogram.of([0.2]).counts,
    }
    assert found[canary.revision.name] == {"answers": 0, "degraded": 0, "errors": 1, "latencies": {}}
    revisions.commit(canary.revision.name)
    assert list(revisions.outcomes()) == [canary.revision.name]


def test_only_its_own_end_ends_a_canary(revisions):
    live = revisions.live.revision.name
    canary = revisions.prepare(spec(0.25), None, None).revision.name
    revisions.start_canary(canary, 0.5)
    revisions.commit(live)
    assert list(revisions.outcomes()) == [live, canary]
    revisions.discard(canary)
    assert list(revisions.outcomes()) == [live]


def test_each_revision_asks_members_on_its_own_terms(revisions):
    live = revisions.live
    canary = revisions.prepare(spec(0.25, hedge={"after": "p50"}, deadline_s=0.5), None, None)
    for change in (lambda: None, lambda: revisions.start_canary(canary.revision.name, 0.5)):
        change()
        assert live.revision.graph.terms("a", 7.0) == Terms(7.0, FAIR_SHARE * 2.0, None)
        assert canary.revision.graph.terms("a", 7.0) == Terms(7.0, FAIR_SHARE * 0.5, 50)


def test_closing_lets_go_of_all_members(revisions, connections):
    revisions.close()
    assert all(member.closed for member in connections.made)
