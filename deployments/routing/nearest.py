"""Which replicas of a member a fusion replica connects to, where there are too many for all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from quorate.deployments.routing.replica import Address

# Connections are fusion replicas times replicas of members, and each costs both ends memory and a look every half
# second. With this many, a member replica has as many fusion replicas as the mean, give or take a sixth.
MOST = 32


def nearest(addresses: Mapping[str, Address], node_id: str, own: str, most: int = MOST) -> dict[str, Address]:
    """At most so many of them: those on this node, then others in an order of this fusion replica's own.

    Rendezvous hashing (Thaler and Ravishankar 1998): one that comes or goes moves no more than one connection.

    Args:
        addresses: by replica.
        node_id: of this fusion replica.
        own: its name; each has another order.
    """
    if len(addresses) <= most:
        return dict(addresses)

    def rank(replica_id: str) -> tuple[bool, bytes]:
        drawn = hashlib.blake2b(f"{own} {replica_id}".encode(), digest_size=8).digest()
        return addresses[replica_id].node_id != node_id, drawn

    return {replica_id: addresses[replica_id] for replica_id in sorted(addresses, key=rank)[:most]}
