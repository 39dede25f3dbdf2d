"""Which forward passes the event loop of a fusion replica runs itself, and not the thread beside it.

A pass that never returned would keep all requests of the event loop from their deadlines, whatever watches it. So what
a network is made of decides first: only one that can do nothing but compute, for a time that its rows bound, is run
there. What has been measured decides next: passes that are short. All else is the thread's, and the first of each size.
"""

# B rows

from __future__ import annotations

import math
from collections.abc import Sequence

from quorate.deployments.members.predictor import Predictor
from quorate.deployments.sources.torch_layers import code_of_others
from quorate.deployments.transport.member_call import MemberCall

# All passes of a batch together: the event loop would wait for the thread as long.
SHORT_S = 0.002
# How much a batch counts in what others of its size are taken to need.
_NEW = 0.1
# Sizes are powers of two; from this one on all are taken for one.
_LARGEST = 13


class ShortPasses:
    """Of a group of members. Asked by one thread, told by another: neither needs the newest of the other's."""

    def __init__(self, members: Sequence[Predictor]):
        self._bounded = [not why_unbounded(member) for member in members]
        self._needs_s = [math.inf] * (_LARGEST + 1)

    def fit(self, calls: Sequence[MemberCall]) -> bool:
        """Whether the passes of a batch are short for certain: they cannot hang, and others of the size were short."""
        bounded, rows = self._bounded, 0
        for call in calls:
            if not bounded[call.member]:
                return False
            rows += call.payload.rows
        return self._needs_s[min(rows.bit_length(), _LARGEST)] <= SHORT_S

    def took(self, calls: Sequence[MemberCall], seconds: float) -> None:
        """A batch has been run, wherever. One that was long is believed at once, and so is the next that was not."""
        rows = 0
        for call in calls:
            rows += call.payload.rows
        size = min(rows.bit_length(), _LARGEST)
        before = self._needs_s[size]
        alike = before <= SHORT_S and seconds <= SHORT_S
        self._needs_s[size] = before + _NEW * (seconds - before) if alike else seconds


def why_unbounded(member: Predictor) -> str:
    """What a member could do beside computing for a time that its rows bound; empty for nothing.

    A module's own ``forward`` may sleep, ask others or never end; torch's own layers cannot.
    """
    network = member.model.network
    if network is None:
        return "it is no torch module that takes tensors alone"
    if member.model.device.type != "cpu" or member.threads != 1:
        return "it computes on a GPU, or on several threads"
    if not member.reads_fixed_numbers:
        return "a row of it may have any size, or has to be read first"
    other = code_of_others(network)
    return f"{other} has code that is not torch's" if other else ""
