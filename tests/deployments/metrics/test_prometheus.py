"""Series come with members and go with them."""

import numpy as np

from quorate.deployments.metrics.prometheus import Metrics
from quorate.deployments.routing.reply import MemberReply


def test_a_member_that_is_gone_leaves_no_series_and_what_still_comes_of_it_is_not_counted():
    metrics = Metrics("e", ["a"])
    before = metrics.text()
    for number in range(20):
        name = f"b{number}"
        metrics.know([name])
        metrics.members(name, 1, 0)
        metrics.member_replied(name, MemberReply(np.zeros((1, 2)), np.zeros(1, np.uint8)))
        assert f'member="{name}"'.encode() in metrics.text()
        metrics.forget(name)
        metrics.member_replied(name, MemberReply(None, None, "dead"))
    assert b'member="b' not in metrics.text()
    assert metrics.text().count(b"\n") == before.count(b"\n")
    metrics.know(["b0"])
    assert metrics.executions("b0") == 0
