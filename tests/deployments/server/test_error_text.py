"""What clients are told of errors."""

import logging

from quorate.deployments.errors import RequestError
from quorate.deployments.server.error_text import clip, error_text
from quorate.deployments.wire.limits import MAX_ERROR_BYTES


def test_our_own_errors_are_told_and_others_only_logged(caplog):
    assert error_text(RequestError("give rows")) == "give rows"
    with caplog.at_level(logging.ERROR):
        assert "secret" not in error_text(ValueError("a secret path"))
    assert "a secret path" in caplog.text


def test_a_long_sentence_is_cut_at_a_whole_character():
    cut = clip("é" * MAX_ERROR_BYTES)
    assert len(cut.encode()) <= MAX_ERROR_BYTES
    assert set(cut) == {"é"}
