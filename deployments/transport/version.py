"""Which version of the wire two replicas speak: each says its own, and the oldest that it still understands.

HELLO and WELCOME carry both, where the first version had zeros. A change that an older replica need not know (a kind of
message that it may ignore, frames behind the tensors) is a new VERSION, and goes only to those that have it; one that
it cannot do without raises OLDEST, a release after the version that understands both.
"""

from __future__ import annotations

# 2: versions are said; unknown kinds of messages, and frames behind the tensors, are passed over.
# 3: whose a call is, and what is to be traced and logged.
# 4: members that share a process are asked together.
VERSION = 4
OLDEST = 1
# Since when kinds of messages are there that are not sent to older ones.
TELEMETRY_SINCE = 3


def agreed(theirs: float, their_oldest: int) -> int:
    """The version to speak with somebody who said this; 0 where there is none that both understand."""
    newest = max(int(theirs), 1)
    common = min(VERSION, newest)
    return common if common >= max(OLDEST, their_oldest) else 0


def refusal(theirs: float, their_oldest: int) -> str:
    """Why there is none, and what to do."""
    newest = max(int(theirs), 1)
    older, of = ("the other", newest) if newest < VERSION else ("this", VERSION)
    return (
        f"this replica speaks versions {OLDEST} to {VERSION} of Quorate's wire and the other {max(their_oldest, 1)} to "
        f"{newest}; upgrade Quorate where {older} one runs (version {of}), see docs/upgrading.md"
    )
