"""The cluster's keys: who holds them is believed, nobody else is, and they are not left lying about."""

import ssl

import pytest

from quorate.deployments.transport.keys import ClusterKeys
from quorate.deployments.transport.tls import TlsSession

OURS, OTHERS = ClusterKeys.make(), ClusterKeys.make()


def shake_hands(server, client):
    """Carry bytes from one end to the other until both are satisfied."""
    ends = [TlsSession(client, server_side=False), TlsSession(server, server_side=True)]
    words, turn = ends[0].handshake(), 1
    while words:
        ends[turn].buffer()[: len(words)] = words
        ends[turn].received(len(words))
        words = ends[turn].handshake()
        turn = 1 - turn
    return ends


def test_both_ends_that_hold_the_keys_believe_each_other():
    client, server = shake_hands(OURS.for_server(), OURS.for_client())
    assert client.established
    assert server.established
    sent = client.encrypt(b"rows")
    server.buffer()[: len(sent)] = sent
    server.received(len(sent))
    found = memoryview(bytearray(100))
    assert bytes(found[: server.decrypt(found)]) == b"rows"
    assert server.decrypt(found) == 0


def test_keys_of_another_cluster_are_believed_by_neither_end():
    for server, client in ((OURS, OTHERS), (OTHERS, OURS)):
        with pytest.raises(ssl.SSLError):
            shake_hands(server.for_server(), client.for_client())


def test_client_without_a_certificate_is_not_believed():
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLError):
        shake_hands(OURS.for_server(), bare)


def test_tls_before_1_3_is_not_spoken():
    old = OURS.for_client()
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake_hands(OURS.for_server(), old)


def test_keys_are_not_printed():
    assert "KEY" not in f"{OURS} {OURS!r}"
