"""Each class of answer is told from the others; what would be wrong is planted here by hand."""

import numpy as np
import pytest

from tests.cluster.three_nodes.classify import (
    DEGRADED,
    ERROR,
    FULL,
    LOST,
    MISLABELLED,
    REFUSED,
    SWAPPED,
    WRONG,
    Judged,
    Report,
    classify,
)
from tests.cluster.three_nodes.oracle import MEMBERS, OTHER_WEIGHTS, WEIGHTS, fused, part

REVISIONS = {"one": WEIGHTS, "two": OTHER_WEIGHTS}
NUMBERS = range(1, 2001)


def line(number=7, used=MEMBERS, weights=WEIGHTS, **changes):
    """An answer with nothing wrong about it."""
    missing = [f"{name}:dead" for name in MEMBERS if name not in used]
    return {
        "number": number, "outcome": "answer", "values": rounded(fused(np.array([number]), used, weights)[0]),
        "used": used, "missing": missing, "revision": "one", "degraded": bool(missing),
        "coverage": sum(weights[name] for name in used), **changes,
    }  # fmt: skip


def rounded(values):
    """As a server sends them."""
    return np.asarray(values, np.float32).astype(float).tolist()


def one_swapped(number, other, member):
    """The fusion for ``number``, where one member has answered for ``other``."""
    here, there = (part(np.array([n]), member, MEMBERS, WEIGHTS)[0] for n in (number, other))
    return rounded(fused(np.array([number]), MEMBERS, WEIGHTS)[0] - here + there)


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (line(), FULL),
        (line(weights=OTHER_WEIGHTS, revision="two"), FULL),
        (line(used=("a", "c")), DEGRADED),
        (line(values=[0.25, 0.25, 0.25, 0.25]), WRONG),
        (line(values=rounded([np.nan] * 4)), WRONG),
        (line(values=line(8)["values"]), SWAPPED),
        (line(values=line(9, used=("a", "b"))["values"]), SWAPPED),
        (line(values=one_swapped(7, 1999, "c")), SWAPPED),
        (line(values=one_swapped(7, 2999, "c")), WRONG),  # nobody has asked for that one
        (line(values=line(used=("a", "b"))["values"]), MISLABELLED),
        (line(weights=OTHER_WEIGHTS), MISLABELLED),
        (line(revision="three"), MISLABELLED),
        (line(degraded=True), MISLABELLED),
        (line(used=("a", "c"), degraded=False), MISLABELLED),
        (line(used=("a", "c"), missing=[]), MISLABELLED),
        (line(used=("a", "c"), coverage=1.0), MISLABELLED),
        ({"number": 7, "outcome": ERROR}, ERROR),
        ({"number": 7, "outcome": REFUSED}, REFUSED),
        ({"number": 7, "outcome": LOST}, LOST),
    ],
)
def test_a_request_is_of_one_class(found, kind):
    assert classify(found, REVISIONS, NUMBERS) == kind


def test_no_two_requests_have_answers_that_could_be_taken_for_each_other():
    values = fused(np.arange(20_000), MEMBERS, WEIGHTS)
    order = np.lexsort(values.T)
    assert np.abs(np.diff(values[order], axis=0)).max(axis=1).min() > 1e-6


@pytest.mark.parametrize("kind", [WRONG, SWAPPED, MISLABELLED, LOST])
def test_one_harmed_request_of_a_thousand_fails_a_report(kind):
    requests = [Judged(n, n, n, "door", "http", 1, FULL if n else kind, {"number": n}) for n in range(1000)]
    Report(requests[1:]).assert_answered()
    with pytest.raises(AssertionError, match=kind):
        Report(requests).assert_answered(0.5)


def test_a_share_that_was_not_answered_fails_a_report_that_wants_more():
    requests = [Judged(n, n, n, "door", "http", 2, FULL if n else REFUSED, {"number": n}) for n in range(1000)]
    Report(requests).assert_answered(0.999)
    with pytest.raises(AssertionError, match=r"99.9000% of 1000"):
        Report(requests).assert_answered(0.9995)
