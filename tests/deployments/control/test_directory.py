"""Whoever listens to an application hears where its replicas are, and where they were when it began to listen again."""

from quorate.deployments.control.serve import directory
from quorate.deployments.control.serve.directory import announce, forget, listen
from quorate.deployments.routing.replica import Address

HERE, THERE = Address("r1", "here"), Address("r2", "there")


def test_a_listener_hears_of_replicas_and_who_takes_its_place_of_the_latest():
    heard: list[dict[str, Address]] = []
    later: list[dict[str, Address]] = []
    listen("listened", heard.append)
    assert heard == []
    announce("listened", {"r1": HERE})
    announce("another", {"r3": HERE})
    announce("listened", {"r1": HERE, "r2": THERE})
    listen("listened", later.append)
    announce("listened", {})
    assert heard == [{"r1": HERE}, {"r1": HERE, "r2": THERE}]
    assert later == [{"r1": HERE, "r2": THERE}, {}]


def test_nothing_is_kept_of_applications_that_nobody_listens_to_any_more():
    before = len(directory._listeners), len(directory._latest)
    for number in range(100):
        app = f"gone{number}"
        listen(app, lambda addresses: None)
        announce(app, {"r1": HERE})
        forget(app)
        announce(app, {"r1": HERE})  # Serve's last word may come later
    forget("never known")
    assert (len(directory._listeners), len(directory._latest)) == before
