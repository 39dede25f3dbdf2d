"""Retries are a share of what is asked, and a few a second for clients that ask little."""

import time

import pytest

from quorate.deployments import Client
from quorate.deployments.client.retry_budget import RETRIES_PER_S, SAVED_S, RetryBudget
from quorate.deployments.errors import OverloadedError


def spent(budget, now):
    return sum(iter(lambda: budget.take(now), False))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_a_thousand_requests_earn_their_share_of_retries(share):
    budget, now = RetryBudget(share), time.monotonic()
    spent(budget, now)
    for request in range(1000):
        budget.earn()
        if request % 100 == 99:
            assert spent(budget, now) == pytest.approx(100 * share, abs=1)


def test_a_client_that_asks_little_may_still_try_again():
    budget, now = RetryBudget(0.0), time.monotonic()
    spent(budget, now)
    assert spent(budget, now + 2) == 2 * RETRIES_PER_S


def test_what_is_saved_up_is_no_flood():
    budget, now = RetryBudget(), time.monotonic()
    for _ in range(100_000):
        budget.earn()
    assert spent(budget, now + 3600) == RETRIES_PER_S * SAVED_S


def test_where_the_budget_is_used_up_a_refusal_is_final(busy):
    handler, url = busy
    handler.refusals = 9
    with Client(url, model="busy", retries=5) as client:
        spent(client._budget, time.monotonic() + SAVED_S)
        with pytest.raises(OverloadedError):
            client.metadata()
    assert handler.asked == 1
