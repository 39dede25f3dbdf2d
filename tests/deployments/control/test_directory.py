"""Whoever listens to an application hears where its replicas are, whether they came before or after."""

from quorate.deployments.control.directory import announce, listen
from quorate.deployments.routing.replica import Address

HERE, THERE = Address("r1", "here"), Address("r2", "there")


def test_a_listener_hears_of_replicas_before_and_after_it_came():
    heard: list[dict[str, Address]] = []
    announce("early", {"r1": HERE})
    listen("early", heard.append)
    announce("early", {"r1": HERE, "r2": THERE})
    announce("another", {"r3": HERE})
    assert heard == [{"r1": HERE}, {"r1": HERE, "r2": THERE}]


def test_a_listener_that_comes_first_waits():
    heard: list[dict[str, Address]] = []
    listen("late", heard.append)
    assert heard == []
    announce("late", {})
    assert heard == [{}]
