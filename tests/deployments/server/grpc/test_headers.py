"""Timeouts and sentences in gRPC's headers."""

from urllib.parse import unquote_to_bytes

import grpc
import pytest

from quorate.deployments.errors import RequestError
from quorate.deployments.server.grpc.headers import STATUSES, parse_timeout_s, trailers


def test_statuses_have_grpcs_numbers():
    assert {code.name: code.value[0] for code in grpc.StatusCode} == {n: i for i, n in enumerate(STATUSES)}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 4e-3), (b"5u", 5e-6), (b"6n", 6e-9), (b"99999999S", 99999999)],
)
def test_timeouts_have_units(value, seconds):
    assert parse_timeout_s(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"S", b"1", b"1s", b"123456789S", b" 1S", b"1S\n", b"\xff"])
def test_anything_else_is_no_timeout(value):
    with pytest.raises(RequestError, match="grpc-timeout"):
        parse_timeout_s(value)


@pytest.mark.parametrize("sentence", ["plain", "100 % of it", "a\nb\0c", "é 模型", "~ !", "%41"])
def test_sentences_are_printable_and_come_back_whole(sentence):
    (_, status), (_, text) = trailers("NOT_FOUND", sentence)
    assert status == b"5"
    assert text.isascii()
    assert text.decode().isprintable()
    assert unquote_to_bytes(text).decode() == sentence
