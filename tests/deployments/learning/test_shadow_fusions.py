"""Shadow fusions beside the answers of real members, behind real doors."""

import time

import numpy as np
import pytest

from quorate.deployments import parse_spec
from quorate.deployments.client.client import Client
from quorate.deployments.engine.revision import build_revision
from quorate.deployments.learning.shadows.comparison import Comparison
from tests.deployments.support.member_threads import FACTORIES

ROWS = np.random.default_rng(3).normal(size=(64, 2)).astype(np.float32)


def known(shift):
    """The right answer of ``factories/known.py``, computed in float64 from its definition."""
    x = ROWS.astype(np.float64)
    scores = np.stack([x[:, 0] + shift, x[:, 1] - shift, x[:, 0] * x[:, 1]], axis=1)
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def revision(spec, **fusion):
    return build_revision(parse_spec({**spec, "fusion": {**spec["fusion"], **fusion}}), FACTORIES)


@pytest.fixture
def doors(open_doors, pair_spec):
    """Two members, fused 1 to 3; without shadows in the end."""
    found = open_doors({**pair_spec, "name": "shadowed"})
    yield found
    found.server.with_shadows(lambda shadows: shadows.use([]))


def use(doors, *revisions):
    doors.server.with_shadows(lambda shadows: shadows.use(revisions))


def compared(doors, name, rows):
    """The comparison of a shadow, once so many rows were looked at."""
    until = time.monotonic() + 60
    while True:
        report = doors.server.with_shadows(lambda shadows: shadows.report())
        found = Comparison.from_json(report["shadows"][name]["outputs"][""])
        if found.rows + found.failed_rows >= rows:
            return found
        assert time.monotonic() < until, f"{found.rows} of {rows} rows were compared"
        time.sleep(0.02)


def test_a_shadow_is_compared_with_what_it_would_have_said(doors, pair_spec):
    spec = {**pair_spec, "name": "shadowed"}
    other = revision(spec, weights={"a": 0.9, "b": 0.1})
    use(doors, other)
    with Client(doors.http, model="shadowed") as client:
        for at in range(0, 64, 8):
            client.infer({"x": ROWS[at : at + 8]})
    found = compared(doors, other.name, 64)
    live, would = 0.25 * known(1) + 0.75 * known(-2), 0.9 * known(1) + 0.1 * known(-2)
    assert (found.rows, found.both, found.failed_rows) == (64, 64, 0)
    assert found.changed == int((live.argmax(axis=1) != would.argmax(axis=1)).sum()) > 0
    assert found.apart == pytest.approx(np.abs(live - would).sum() / 2, rel=1e-4)
    assert found.confidence_shadow == pytest.approx(would.max(axis=1).sum(), rel=1e-5)
    assert found.confidence_live == pytest.approx(live.max(axis=1).sum(), rel=1e-5)
    assert found.coverage_live == found.coverage_shadow == pytest.approx(64)
