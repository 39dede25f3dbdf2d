"""One cluster of three nodes for the tests in this folder, and ensembles on it."""

import pytest

from tests.cluster.three_nodes.cluster import ThreeNodes, seed
from tests.cluster.three_nodes.machine import why_not
from tests.cluster.three_nodes.oracle import ensemble


@pytest.fixture(scope="package")
def nodes(tmp_path_factory):
    """The cluster; every test leaves it whole."""
    problem = why_not()
    if problem:
        pytest.skip(problem)
    with ThreeNodes(tmp_path_factory.mktemp("three_nodes")) as nodes:
        yield nodes


@pytest.fixture(name="seed")
def _seed():
    return seed()


@pytest.fixture
def served(nodes):
    """The ensemble ``served``, as it was before other tests."""
    return nodes.driver().do("deploy", spec=ensemble("served"))


@pytest.fixture
def deploy(nodes):
    """Deploys on the cluster, and takes down after the test what it has deployed."""
    names = set()

    def run(spec, **options):
        names.add(spec["name"])
        return nodes.driver().do("deploy", spec=spec, **options)

    yield run
    for name in names & set(nodes.driver().do("ensembles")):
        nodes.driver().do("down", name=name)
