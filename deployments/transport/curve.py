"""Keys with which replicas on different nodes prove to each other that they belong to the same cluster (ZeroMQ CURVE).

Both key pairs are derived from the cluster's secret, which only its processes can read (``control.registry``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils import z85

from quorate.deployments.transport.connection import MAX_UNREAD_MESSAGES
from quorate.deployments.transport.tcp import ClientKeys, set_heartbeat


@dataclass(frozen=True)
class KeyPair:
    public: str
    secret: str

    def for_client(self) -> ClientKeys:
        return ClientKeys(self.public, self.secret)


def key_pair(secret: bytes, role: str) -> KeyPair:
    """The key pair of a role ("member" or "fusion"), the same on every node."""
    private = z85.encode(hashlib.sha256(secret + role.encode()).digest())
    return KeyPair(zmq.curve_public(private).decode(), private.decode())


class _Only:
    """Admits one public key."""

    def __init__(self, public: str):
        self._public = public.encode()

    def callback(self, domain: str, key: bytes) -> bool:
        return key == self._public


def guarded_router(context: zmq.Context[Any], secret: bytes) -> tuple[zmq.Socket[bytes], ThreadAuthenticator]:
    """A ROUTER socket that only fusion replicas of this cluster can speak to; stop the authenticator when done."""
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve_callback("*", credentials_provider=_Only(key_pair(secret, "fusion").public))
    keys = key_pair(secret, "member")
    socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.SNDHWM, MAX_UNREAD_MESSAGES)
    set_heartbeat(socket)
    socket.curve_server = True
    socket.curve_publickey, socket.curve_secretkey = keys.public.encode(), keys.secret.encode()
    return socket, authenticator
