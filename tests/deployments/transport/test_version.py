"""Versions of the wire: which is spoken, what a later one may send, and what is said where there is none in common."""

import struct

import numpy as np
import pytest

from quorate.deployments.transport import version
from quorate.deployments.transport.messages import Kind, pack, pack_greeting, unpack
from quorate.deployments.transport.version import OLDEST, VERSION, agreed, refusal


def test_both_ends_speak_the_older_version_and_one_that_says_none_speaks_the_first():
    assert agreed(VERSION, OLDEST) == VERSION
    assert agreed(VERSION + 5, OLDEST) == VERSION
    assert agreed(0.0, 0) == 1
    hello = unpack(pack_greeting(Kind.HELLO))
    assert (hello.kind, hello.number, hello.call_id) == (Kind.HELLO, VERSION, OLDEST)


def test_one_that_takes_only_later_versions_is_refused_and_so_is_one_that_is_too_old(monkeypatch):
    assert agreed(VERSION + 5, VERSION + 1) == 0
    assert f"upgrade Quorate where this one runs (version {VERSION})" in refusal(VERSION + 5, VERSION + 1)
    monkeypatch.setattr(version, "OLDEST", VERSION)
    assert agreed(0.0, 0) == 0
    assert "upgrade Quorate where the other one runs (version 1)" in refusal(0.0, 0)


def test_a_message_of_a_later_kind_is_read_as_unknown_and_frames_behind_the_tensors_are_passed_over():
    (frame,) = pack(Kind.CANCEL, 7)
    later = bytearray(frame)
    later[2] = 99
    message = unpack([bytes(later), b"of a kind", b"of its own"])
    assert (message.kind, message.call_id, message.text) == (Kind.UNKNOWN, 7, "99")
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    (read,) = unpack([*pack(Kind.CALL, 7, 1.0, [rows]), b"00-trace"]).tensors
    assert read.tolist() == rows.tolist()


@pytest.mark.parametrize(
    ("frames", "first"),
    [
        (pack(Kind.HELLO), struct.pack("<2sBBQf", b"Q1", 4, 0, 0, 0.0)),
        (pack(Kind.CALL, 7, 1.5, [np.zeros((2, 3), np.float32)]), struct.pack("<2sBBQf", b"Q1", 1, 1, 7, 1.5)),
    ],
)
def test_what_the_first_version_sends_has_not_changed(frames, first):
    assert bytes(frames[0]).startswith(first)
