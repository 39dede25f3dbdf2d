"""Shadow fusions beside the answers of real members, behind real doors."""

import time

import httpx
import numpy as np
import pytest

from quorate.deployments import parse_spec
from quorate.deployments.client.client import Client
from quorate.deployments.engine.revision import build_revision
from quorate.deployments.learning.shadows import shadow_fusions
from quorate.deployments.learning.shadows.comparison import Comparison
from tests.deployments.support.known_answers import known_answers
from tests.deployments.support.member_threads import FACTORIES

ROWS = np.random.default_rng(3).normal(size=(64, 2)).astype(np.float32)


def known(shift):
    return known_answers(ROWS, shift)


@pytest.fixture(scope="module")
def spec(pair_spec):
    return {**pair_spec, "name": "shadowed"}


@pytest.fixture(scope="module")
def opened(open_doors, spec):
    return open_doors(spec)


@pytest.fixture
def doors(opened):
    """Two members, fused 1 to 3; without shadows in the end."""
    yield opened
    opened.server.with_shadows(lambda shadows: shadows.use([]))


def revision(spec, **fusion):
    fusion = {name: value for name, value in (spec["fusion"] | fusion).items() if value is not None}
    return build_revision(parse_spec({**spec, "fusion": fusion}), FACTORIES)


def use(doors, *revisions):
    doors.server.with_shadows(lambda shadows: shadows.use(revisions))


def report(doors):
    return doors.server.with_shadows(lambda shadows: shadows.report())


def ask(doors, rows=8, **parameters):
    with Client(doors.http, model="shadowed") as client:
        for at in range(0, len(ROWS), rows):
            client.infer({"x": ROWS[at : at + rows]}, **parameters)


def compared(doors, name, rows=64):
    """The comparison of a shadow, once so many rows were looked at."""
    until = time.monotonic() + 60
    while True:
        found = Comparison.from_json(report(doors)["shadows"][name]["outputs"][""])
        if found.rows + found.failed_rows >= rows:
            return found
        assert time.monotonic() < until, f"{found.rows} of {rows} rows were compared"
        time.sleep(0.02)


def member_calls(doors):
    lines = httpx.get(f"{doors.http}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("quorate_member_replies_total{"))


def test_a_shadow_is_compared_with_what_it_would_have_said(doors, spec):
    other = revision(spec, weights={"a": 0.9, "b": 0.1})
    use(doors, other)
    ask(doors)
    found = compared(doors, other.name)
    live, would = 0.25 * known(1) + 0.75 * known(-2), 0.9 * known(1) + 0.1 * known(-2)
    assert (found.rows, found.both, found.failed_rows) == (64, 64, 0)
    assert found.changed == int((live.argmax(axis=1) != would.argmax(axis=1)).sum()) > 0
    assert found.apart == pytest.approx(np.abs(live - would).sum() / 2, rel=1e-4)
    assert found.confidence_shadow == pytest.approx(would.max(axis=1).sum(), rel=1e-5)
    assert found.confidence_live == pytest.approx(live.max(axis=1).sum(), rel=1e-5)
    assert found.coverage_live == found.coverage_shadow == pytest.approx(64)


def test_five_shadows_take_no_call_of_a_member(doors, spec):
    weights = [round(0.1 * tenth, 1) for tenth in range(3, 8)]
    shadows = [revision(spec, weights={"a": w, "b": round(1 - w, 1)}) for w in weights]
    use(doors, *shadows)
    before = member_calls(doors)
    ask(doors)
    for one in shadows:
        compared(doors, one.name)
    assert member_calls(doors) - before == 2 * 8  # two members, eight requests


def test_a_fusion_of_fewer_members_is_a_shadow_too_and_another_rule(doors, spec):
    alone = revision({**spec, "members": {"b": spec["members"]["b"]}}, rule="mean", weights=None)
    geometric = revision(spec, rule="geometric_mean", weights=None)
    use(doors, alone, geometric)
    ask(doors)
    assert compared(doors, alone.name).confidence_shadow == pytest.approx(known(-2).max(axis=1).sum(), rel=1e-5)
    product = np.sqrt(known(1) * known(-2))
    share = product / product.sum(axis=1, keepdims=True)
    assert compared(doors, geometric.name).confidence_shadow == pytest.approx(share.max(axis=1).sum(), rel=1e-5)


def test_who_asks_certain_members_is_compared_with_nobody(doors, spec):
    other = revision(spec, weights={"a": 0.6, "b": 0.4})
    use(doors, other)
    ask(doors, members="a")
    ask(doors)
    assert compared(doors, other.name).rows == 64


def test_rows_that_a_shadow_declines_are_not_among_those_that_both_answer(doors, spec):
    sure = revision(spec, weights={"a": 0.5, "b": 0.5}, decision={"reject_below": 0.6})
    use(doors, sure)
    ask(doors)
    found = compared(doors, sure.name)
    declined = int(((known(1) + known(-2)).max(axis=1) / 2 < 0.6).sum())
    assert (found.both, found.only_live, found.only_shadow) == (64 - declined, declined, 0)
    assert 0 < declined < 64


def test_what_is_too_much_is_dropped_and_counted_and_every_answer_comes(doors, spec, monkeypatch):
    monkeypatch.setattr(shadow_fusions, "WAITING_BYTES", -1)
    other = revision(spec, weights={"a": 0.4, "b": 0.6})
    use(doors, other)
    ask(doors)
    found = report(doors)
    assert found["dropped_rows"] >= 64
    assert found["shadows"][other.name]["outputs"][""]["rows"] == 0


def test_a_shadow_that_fails_says_why_and_no_answer_is_touched(doors, spec, monkeypatch):
    other = revision(spec, weights={"a": 0.7, "b": 0.3})
    use(doors, other)

    def fail(*_):
        raise RuntimeError("as planned")

    monkeypatch.setattr(Comparison, "add", fail)
    ask(doors)
    found = compared(doors, other.name)
    assert (found.failed_rows, found.rows) == (64, 0)
    assert "the log of the doors says why" in found.failure


def test_another_live_revision_is_what_shadows_are_compared_with_from_then_on(doors, spec):
    other = revision(spec, weights={"a": 0.9, "b": 0.1})
    use(doors, other)
    ask(doors)
    compared(doors, other.name)
    doors.server.call(_publish(doors, parse_spec(spec | {"fusion": spec["fusion"] | {"quorum": 2}})))
    try:
        until = time.monotonic() + 60
        while report(doors)["live"] != doors.engine.revision.name:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert report(doors)["shadows"][other.name]["outputs"][""]["rows"] == 0
        ask(doors)
        compared(doors, other.name)
    finally:
        doors.server.call(_publish(doors, parse_spec(spec)))


async def _publish(doors, spec):
    name = doors.engine.prepare(spec)
    doors.engine.revisions.commit(name)
