"""Members that only a shadow asks, behind real doors: for a share of the requests, and at nobody's cost."""

import time
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from quorate.deployments import parse_spec
from quorate.deployments.client.client import Client
from quorate.deployments.engine.revision import build_revision
from quorate.deployments.learning.shadows import asking
from quorate.deployments.learning.shadows.asking import Asks, MemberCalls
from quorate.deployments.learning.shadows.comparison import Comparison
from tests.deployments.support.known_answers import known_answers
from tests.deployments.support.member_threads import FACTORIES
from tests.deployments.support.waiting import until

ROWS = np.random.default_rng(3).normal(size=(64, 2)).astype(np.float32)


def known(shift):
    return known_answers(ROWS, shift)


def member(shift):
    return {"model": "known:known", "config": {"shift": shift}, "inputs": ["x"], "output": "probabilities"}


@pytest.fixture(scope="module")
def spec(pair_spec):
    """A third member runs, which the live fusion gives no weight."""
    fusion = {"rule": "weighted_mean", "weights": {"a": 0.25, "b": 0.75, "c": 0.0}, "deadline_s": 5.0}
    return {**pair_spec, "name": "asking", "members": {**pair_spec["members"], "c": member(3)}, "fusion": fusion}


@pytest.fixture(scope="module")
def opened(open_doors, spec):
    return open_doors(spec)


@pytest.fixture
def doors(opened):
    yield opened
    opened.server.use_shadows([], {}, {})


def revision(spec, **weights):
    return build_revision(parse_spec({**spec, "fusion": {**spec["fusion"], "weights": weights}}), FACTORIES)


def use(doors, *shadows):
    """Have shadows that ask ``c`` for a share of the requests, or nobody where the share is 0."""
    asks = {one.name: Asks(share, {"c": "c"}) for one, share in shadows if share}
    doors.server.use_shadows([one for one, _ in shadows], {}, asks)


def report(doors):
    return doors.server.with_shadows(lambda shadows: shadows.report())


def ask(doors, rows=8, again=1):
    with Client(doors.http, model="asking") as client:
        for at in range(0, len(ROWS) * again, rows):
            yield client.infer({"x": ROWS[at % len(ROWS) : at % len(ROWS) + rows]})


def compared(doors, name, rows=64):
    def found():
        one = Comparison.from_json(report(doors)["shadows"][name]["outputs"][""])
        return one if one.rows + one.failed_rows >= rows else None

    until(found)
    return found()


def calls(doors, name):
    return MemberCalls.from_json(report(doors)["shadows"][name]["asks"]["c"])


def replies(doors, member):
    lines = httpx.get(f"{doors.http}/metrics").text.splitlines()
    wanted = [line for line in lines if line.startswith("quorate_member_replies_total{") and f'"{member}"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in wanted)


def test_a_shadow_is_compared_with_what_it_would_have_said_with_a_member_of_its_own(doors, spec):
    shadow = revision(spec, a=0.3, b=0.2, c=0.5)
    use(doors, (shadow, 1.0))
    before = replies(doors, "c")
    for answer in ask(doors):
        assert "c" not in answer.parameters["members_used"]
    found = compared(doors, shadow.name)
    live = 0.25 * known(1) + 0.75 * known(-2)
    would = 0.3 * known(1) + 0.2 * known(-2) + 0.5 * known(3)
    assert (found.rows, found.both, found.failed_rows) == (64, 64, 0)
    assert found.changed == int((live.argmax(axis=1) != would.argmax(axis=1)).sum()) > 0
    assert found.apart == pytest.approx(np.abs(live - would).sum() / 2, rel=1e-4)
    assert found.confidence_live == pytest.approx(live.max(axis=1).sum(), rel=1e-5)
    assert found.confidence_shadow == pytest.approx(would.max(axis=1).sum(), rel=1e-5)
    told = calls(doors, shadow.name)
    assert (told.rows, told.failed.total(), told.calls) == (64, 0, told.replies)
    assert replies(doors, "c") == before  # what shadows ask is none of the ensemble's counts


def test_the_share_is_of_the_requests_and_what_is_not_asked_is_not_compared(doors, spec, monkeypatch):
    drawn = iter(np.linspace(0, 1, 64, endpoint=False).tolist())
    source = SimpleNamespace(random=lambda: next(drawn))  # nobody else draws from it
    monkeypatch.setattr("quorate.deployments.learning.shadows.asking.random", source)
    shadow = revision(spec, a=0.3, b=0.2, c=0.5)
    use(doors, (shadow, 0.25))
    for _ in ask(doors, rows=1):
        pass
    assert compared(doors, shadow.name, 16).rows == calls(doors, shadow.name).rows == 16


def test_shadows_that_ask_the_same_member_ask_it_once(doors, spec):
    shadows = [revision(spec, a=0.5, b=0.0, c=0.5), revision(spec, a=0.0, b=0.5, c=0.5)]
    use(doors, *((one, 1.0) for one in shadows), (revision(spec, a=0.5, b=0.5, c=0.0), 0))
    for _ in ask(doors):
        pass
    for one in shadows:
        compared(doors, one.name)
    assert [calls(doors, one.name).rows for one in shadows] == [64, 64]
    shared = report(doors)["shadows"][revision(spec, a=0.5, b=0.5, c=0.0).name]
    assert "asks" not in shared


def test_a_member_that_is_late_or_gone_costs_no_answer_and_is_counted(doors, spec, monkeypatch):
    shadow = revision(spec, a=0.3, b=0.2, c=0.5)
    use(doors, (shadow, 1.0))
    there = doors.engine.revisions.member("c", "c")
    monkeypatch.setattr(there, "ask", lambda *_: None)  # as where no replica takes calls
    monkeypatch.setattr(there, "reason", "dead")
    assert not any(answer.parameters["degraded"] for answer in ask(doors))
    found = compared(doors, shadow.name)
    assert found.coverage_shadow == pytest.approx(64 * 0.5)
    assert calls(doors, shadow.name).failed == {"dead": 64}
    assert doors.engine.ready()["c"] == 1


def test_a_door_that_is_loaded_asks_nothing_and_counts_what_it_gave_up(doors, spec, monkeypatch):
    monkeypatch.setattr(asking, "WAIT_S", 0.0)
    monkeypatch.setattr(type(doors.engine), "loaded", property(lambda _: True))
    shadow = revision(spec, a=0.3, b=0.2, c=0.5)
    use(doors, (shadow, 1.0))
    for _ in ask(doors):
        pass
    until(lambda: report(doors)["given_up_rows"] >= 64)
    assert calls(doors, shadow.name).rows == 0


def test_what_is_under_way_when_a_shadow_goes_is_given_up(doors, spec, monkeypatch):
    asked, given_up = [], []

    class Call:
        finished = False

        def give_up(self, reason):
            given_up.append(reason)

    there = doors.engine.revisions.member("c", "c")

    def hang(*_):
        asked.append(time.monotonic())
        return Call()

    monkeypatch.setattr(there, "ask", hang)
    use(doors, (revision(spec, a=0.3, b=0.2, c=0.5), 1.0))
    for _ in ask(doors):
        pass
    until(lambda: asked)
    use(doors)
    assert given_up == ["gone"] * len(asked)
    assert len(asked) <= asking.MOST_CALLS


def test_a_member_that_no_revision_has_is_connected_for_a_shadow_and_let_go_with_it(open_doors, spec):
    doors = open_doors({**spec, "name": "coming"})
    without = {**spec, "name": "coming", "members": {n: spec["members"][n] for n in ("a", "b")}}
    without["fusion"] = {**spec["fusion"], "weights": {"a": 0.25, "b": 0.75}}

    async def publish():
        name = doors.engine.prepare(parse_spec(without), apps={"a": "a", "b": "b"})
        doors.engine.revisions.commit(name)

    def connected():
        return doors.server.with_revisions(lambda revisions: revisions.asks("c"))

    doors.server.call(publish())
    until(lambda: not connected())
    for _ in range(2):  # and once more, after it was let go
        shadow = revision({**spec, "name": "coming"}, a=0.3, b=0.2, c=0.5)
        use(doors, (shadow, 1.0))
        until(lambda: doors.engine.revisions.member("c", "c").ready())
        with Client(doors.http, model="coming") as client:
            client.infer({"x": ROWS})
        assert compared(doors, shadow.name).rows == 64
        assert calls(doors, shadow.name).failed == {}
        use(doors)
        until(lambda: not connected())
    assert "c" not in doors.engine.ready()


def test_a_member_that_is_not_connected_yet_is_waited_for_and_not_taken_for_gone(doors, spec, monkeypatch):
    there = doors.engine.revisions.member("c", "c")
    monkeypatch.setattr(there, "ready", lambda: 0)
    shadow = revision(spec, a=0.3, b=0.2, c=0.5)
    use(doors, (shadow, 1.0))
    for _ in ask(doors):
        pass
    assert calls(doors, shadow.name).rows == 0
    monkeypatch.setattr(there, "ready", lambda: 1)
    for _ in ask(doors):
        pass
    assert compared(doors, shadow.name).rows == 64
    assert calls(doors, shadow.name).failed == {}
