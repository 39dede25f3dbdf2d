"""Work that is done again and again, whatever becomes of it."""

import logging
import threading

import pytest

from quorate.deployments.control.serve.repeating import repeat


@pytest.fixture
def done(caplog):
    """Does what a list says, one after the other, and returns what was logged."""

    def run(*outcomes):
        left, over = list(outcomes), threading.Event()

        def work():
            if not left:
                over.set()
            elif (outcome := left.pop(0)) is not None:
                raise outcome

        caplog.clear()
        caplog.set_level(logging.WARNING)
        end = repeat("work", 0.001, work, "it cannot be done")
        assert over.wait(60)
        end()
        return [record.getMessage() for record in caplog.records]

    return run


def test_what_fails_is_done_again_and_said_once(done):
    assert done(ValueError("a"), ValueError("a"), ValueError("a")) == ["it cannot be done: ValueError('a')"]


def test_another_failure_and_the_same_after_a_success_are_said(done):
    said = done(ValueError("a"), KeyError("a"), None, KeyError("a"))
    assert said == [f"it cannot be done: {error}" for error in ("ValueError('a')", "KeyError('a')", "KeyError('a')")]


def test_nothing_is_said_of_what_succeeds(done):
    assert done(None, None) == []


def test_it_ends_with_its_thread_when_it_is_told_to():
    ran = threading.Event()
    end = repeat("ends", 0.001, ran.set, "it cannot be done")
    assert ran.wait(60)
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "ends")
    end()
    thread.join(60)
    assert not thread.is_alive()
