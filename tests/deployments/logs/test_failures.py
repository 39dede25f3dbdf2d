"""Which failures of a member are written, and how they are counted."""

import pytest

from quorate.deployments.logs.failures import AGAIN_S, Failures


class Scene:
    def __init__(self):
        self.now_s = 100.0
        self.written: list[str] = []
        self.failures = Failures(self.written.append, lambda: self.now_s)

    def fail(self, error):
        try:
            raise error
        except Exception as raised:
            self.failures.note(raised)


@pytest.fixture
def scene():
    return Scene()


def test_the_first_of_a_kind_is_written_with_its_traceback(scene):
    scene.fail(KeyError("no such feature"))
    assert len(scene.written) == 1
    assert scene.written[0].startswith("failed on a request\nTraceback (most recent call last):")
    assert "KeyError: 'no such feature'" in scene.written[0]
    assert (scene.failures.count, scene.failures.last.partition(" (")[0]) == (1, "KeyError: 'no such feature'")


def test_then_one_a_minute_is_with_how_many_were_not(scene):
    for _ in range(1000):
        scene.fail(KeyError("no such feature"))
    assert len(scene.written) == 1
    scene.now_s += AGAIN_S
    scene.fail(KeyError("no such feature"))
    assert len(scene.written) == 2
    assert scene.written[1].startswith("failed on a request (999 more like it since the one above)")
    assert scene.failures.count == 1001


def test_another_kind_is_not_held_back(scene):
    scene.fail(KeyError("no such feature"))
    scene.fail(ValueError("another"))
    assert len(scene.written) == 2


def test_kinds_without_end_are_written_no_more_than_a_bounded_number_of_times(scene):
    for number in range(10_000):
        scene.failures.note(ValueError(str(number)))
    assert len(scene.written) < 100
