"""Who may do what at a door: the same answer for HTTP and gRPC."""

from __future__ import annotations

from enum import IntEnum

from quorate.deployments.errors import ForbiddenError, UnauthenticatedError
from quorate.deployments.security.doors import Doors, is_loopback
from quorate.deployments.security.tokens import among, digest


class Level(IntEnum):
    """What a call asks for; a token for a level admits to those below it."""

    OPEN = 0  # liveness and readiness: orchestrators ask without a token
    ASK = 1  # inference, metadata, statistics, metrics
    FEEDBACK = 2  # labels for answers: what the ensemble learns from
    MANAGE = 3  # what changes the server, or shows how it is set


class Doorkeeper:
    """Admits calls by their bearer token. Whom it admits may change while the doors are open."""

    def __init__(self, doors: Doors, host: str | None = None):
        # A replica keeps its host while others' doors may be recorded already: what is free on loopback is not there.
        self._local = is_loopback(doors.host if host is None else host)
        self.change(doors)

    def change(self, doors: Doors) -> None:
        """Admit by these tokens from now on."""
        self._ask, self._feedback, self._manage = doors.ask_tokens, doors.feedback_tokens, doors.management_tokens
        has_tokens = bool(self._ask or self._feedback or self._manage)
        self._free = Level.OPEN
        if not self._ask and (self._local or doors.insecure):
            self._free = Level.MANAGE if self._local and not has_tokens else Level.ASK

    @property
    def free(self) -> Level:
        """What anyone may do without a token."""
        return self._free

    def check(self, level: Level, authorization: str) -> None:
        """Let a call pass or raise.

        Args:
            authorization: ``Bearer TOKEN`` as the client sent it, or nothing.

        Raises:
            UnauthenticatedError: no token, or none of ours.
            ForbiddenError: the token does not reach so far, or nobody may do this here.
        """
        if level <= self._free:
            return
        scheme, _, token = authorization.partition(" ")
        found = digest(token.strip()) if scheme.lower() == "bearer" else ""
        tokens = {Level.MANAGE: self._manage, Level.FEEDBACK: self._feedback, Level.ASK: self._ask}
        reached = [of for of, known in tokens.items() if among(found, known)]  # all are looked through, found or not
        if (any(tokens.values()) or self._free < Level.ASK) and not reached:
            if not found:
                raise UnauthenticatedError("no bearer token; send the header 'Authorization: Bearer TOKEN'")
            raise UnauthenticatedError("the bearer token is none of this server's; ask its operator for one")
        reach = max(reached, default=self._free)
        if level == Level.FEEDBACK and reach < level:
            if not (self._feedback or self._manage):
                raise ForbiddenError("labels are not taken here; deploy with --feedback-token-file FILE")
            raise ForbiddenError("this token is for inference; labels need a feedback token")
        if level == Level.MANAGE and reach < level:
            if not self._manage:
                raise ForbiddenError("management calls are off here; deploy with --management-token-file FILE")
            held = "labels" if reach == Level.FEEDBACK else "inference"
            raise ForbiddenError(f"this token is for {held}; management calls need a management token")
