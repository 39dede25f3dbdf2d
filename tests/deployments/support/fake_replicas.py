"""Replicas without sockets: what is asked of them is seen, and they answer when told to."""

import itertools

import numpy as np

from quorate.deployments.routing.replica import Address
from quorate.deployments.transport.messages import Kind, Message, Payload


class FakeReplica:
    """Takes calls as a replica does.

    Attributes:
        asked: the calls, as (kind, payload, expires), by call id.
        dropped: ids of calls that nobody waits for any more.
        contexts: what came with traced calls, by call id.
    """

    _ids = itertools.count(1)

    def __init__(self, replica_id="r", *, on_lost=None, ready=True, outstanding_rows=0):
        self.address = Address(replica_id, "node", "", "")
        self.ready, self.leaving, self.closed = ready, False, False
        self.outstanding_bytes = 0
        self.outstanding_rows, self.failures, self.failed_at = outstanding_rows, 0, 0.0
        self.asked, self.dropped, self.contexts = {}, [], {}
        self._waiting = {}
        self._on_lost = on_lost or (lambda replica: None)

    def __repr__(self):
        return self.address.replica_id

    def call(self, kind, payload, expires, on_reply, context=b""):
        call_id = next(self._ids)
        if context:
            self.contexts[call_id] = context
        self.asked[call_id] = kind, payload, expires
        self._waiting[call_id] = on_reply
        self._count(call_id, 1)
        return call_id

    def drop(self, call_id):
        if self._waiting.pop(call_id, None) is not None:
            self._count(call_id, -1)
            self.dropped.append(call_id)

    def close(self):
        if not self.closed:
            self.closed = True
            self._on_lost(self)
            for call_id in list(self._waiting):
                self._reply(call_id, None)

    @property
    def waiting(self):
        """Ids of calls that wait for an answer."""
        return list(self._waiting)

    def answer(self, *states, kind=Kind.ANSWER, tensors=None, call_id=None):
        """Answer a call, or the oldest: values, and a state for each row, OK where none is given."""
        call_id = call_id or self.waiting[0]
        rows = self.asked[call_id][1].rows
        status = np.array(states or [0] * rows, dtype=np.uint8)
        if tensors is None:
            tensors = (np.arange(2 * rows, dtype=np.float32).reshape(rows, 2), status) if kind is Kind.ANSWER else ()
        self._reply(call_id, Message(kind, call_id, 0.25, tensors))

    def _reply(self, call_id, message):
        on_reply = self._waiting.pop(call_id)
        self._count(call_id, -1)
        on_reply(message)

    def _count(self, call_id, sign):
        payload = self.asked[call_id][1]
        self.outstanding_rows += sign * payload.rows
        self.outstanding_bytes += sign * payload.nbytes


def payload(rows=1):
    """Rows to ask for; which ones, the first number of each says."""
    return Payload([np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)])
