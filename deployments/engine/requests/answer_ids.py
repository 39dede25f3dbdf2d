"""What answers are called, and who keeps what they were fused from: a request is given both as its batch starts."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Sequence

from quorate.deployments.engine.requests.request import Keeper, Request, Watcher


class AnswerIds:
    """Names the answers of one replica.

    Attributes:
        replica: its name, of this start.
        keeper: keeps what answers were fused from; None where nothing is kept.
        watchers: look at it as well, and give it back.
    """

    def __init__(self) -> None:
        self.replica = secrets.token_hex(6)
        self.keeper: Keeper | None = None
        self.watchers: tuple[Watcher, ...] = ()
        self._numbers = itertools.count()

    def watch(self, watcher: Watcher, wanted: bool) -> None:
        """Have somebody look at answers, or no more."""
        others = tuple(one for one in self.watchers if one is not watcher)
        self.watchers = (*others, watcher) if wanted else others

    def name(self, requests: Sequence[Request]) -> None:
        """Name the answers to the requests of a batch; ``wire/answer_id.py`` says how."""
        replica, numbers, keeper, watchers = self.replica, self._numbers, self.keeper, self.watchers
        if keeper is None or not keeper.wants():
            for request in requests:
                request.answer_id = f"{replica}-{next(numbers)}"
                request.watchers = () if request.rehearsal else watchers
            return
        now, watchers = int(time.time()), (keeper, *watchers)
        for request in requests:
            if request.rehearsal:
                request.answer_id = f"{replica}-{next(numbers)}"
            else:
                request.answer_id, request.watchers = f"{replica}-{next(numbers)}-{now}-{request.rows}", watchers
