"""A member that batches of several outputs ask for the same rows: one call, as long as anyone waits for it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from quorate.deployments.engine.several_outputs import _SharedMember
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.routing.terms import Terms
from quorate.deployments.transport.messages import Kind, Payload

ROWS = np.zeros((2, 3), np.float32)
REPLY = MemberReply(ROWS, np.zeros(2, np.uint8))
SOON, LATE = Terms(1.0, patience_s=0.5), Terms(2.0, patience_s=1.0)


def unheard(reply):
    """Of what comes of the call this test says nothing."""


class Member:
    """Remembers what it is asked, and answers when it is told to."""

    reason = "dead"

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.here = True

    def ask(self, kind, payload, terms, done):
        if not self.here:
            return None
        call = SimpleNamespace(kind=kind, terms=terms, done=done, given_up=[])
        call.give_up = call.given_up.append
        self.calls.append(call)
        return call

    def back_s(self):
        return 0.0


@pytest.fixture
def member():
    return Member()


@pytest.fixture
def shared(member):
    requests: list[Any] = [SimpleNamespace(deadline=1.0), SimpleNamespace(deadline=2.0)]
    return _SharedMember(member, requests)


def test_the_same_rows_are_asked_once_until_the_last_deadline_and_all_get_the_reply(member, shared):
    heard: list[MemberReply] = []
    waiting = [shared.ask(Kind.CALL, Payload([ROWS]), terms, heard.append) for terms in (SOON, LATE)]
    (call,) = member.calls
    assert call.terms.expires == 2.0
    assert [one.terms for one in waiting] == [SOON, LATE]
    call.done(REPLY)
    assert heard == [REPLY, REPLY]
    assert [one.finished for one in waiting] == [True, True]


def test_who_asks_after_the_reply_gets_it_at_once(member, shared):
    heard: list[MemberReply] = []
    shared.ask(Kind.CALL, Payload([ROWS]), SOON, heard.append)
    member.calls[0].done(REPLY)
    assert shared.ask(Kind.CALL, Payload([ROWS]), LATE, heard.append).finished
    assert (len(heard), len(member.calls)) == (2, 1)


def test_a_call_goes_on_while_anyone_waits_and_is_given_up_with_the_last(member, shared):
    heard: list[MemberReply] = []
    first, second = (shared.ask(Kind.CALL, Payload([ROWS]), terms, heard.append) for terms in (SOON, LATE))
    (call,) = member.calls
    first.give_up("deadline")
    first.give_up("deadline")
    assert call.given_up == []
    call.done(REPLY)
    assert heard == [REPLY]  # who has given up hears nothing
    second.give_up("gone")
    assert call.given_up == []


def test_after_all_have_given_up_the_rows_are_asked_anew(member, shared):
    one, other = (shared.ask(Kind.CALL, Payload([ROWS]), terms, unheard) for terms in (SOON, LATE))
    one.give_up("gone")
    other.give_up("deadline")
    assert member.calls[0].given_up == ["deadline"]
    shared.ask(Kind.CALL, Payload([ROWS]), LATE, unheard)
    assert len(member.calls) == 2


@pytest.mark.parametrize(
    ("kind", "rows"), [(Kind.CALL_PROBABILITIES, ROWS), (Kind.CALL, ROWS[:1]), (Kind.CALL, ROWS.copy())]
)
def test_other_questions_and_other_rows_are_calls_of_their_own(member, shared, kind, rows):
    shared.ask(Kind.CALL, Payload([ROWS]), SOON, unheard)
    shared.ask(kind, Payload([rows]), SOON, unheard)
    assert len(member.calls) == 2


def test_a_member_that_cannot_be_asked_is_asked_again_by_the_next(member, shared):
    member.here = False
    assert shared.ask(Kind.CALL, Payload([ROWS]), SOON, unheard) is None
    assert shared.reason == "dead"
    member.here = True
    assert shared.ask(Kind.CALL, Payload([ROWS]), SOON, unheard) is not None
