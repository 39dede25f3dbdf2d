"""Whoever listens to an application hears where its replicas are, whether they came before or after."""

from quorate.deployments.control.directory import announce, listen


def test_a_listener_hears_of_replicas_before_and_after_it_came():
    heard = []
    announce("early", {"r1": "here"})
    listen("early", heard.append)
    announce("early", {"r1": "here", "r2": "there"})
    announce("another", {"r3": "here"})
    assert heard == [{"r1": "here"}, {"r1": "here", "r2": "there"}]


def test_a_listener_that_comes_first_waits():
    heard = []
    listen("late", heard.append)
    assert heard == []
    announce("late", {})
    assert heard == [{}]
