"""Ensembles behind both doors without Ray, as the tests of deployments have them, and the tiny one of tuning's."""

import pytest

from tests.deployments.conftest import open_doors, pair, pair_spec
from tests.tuning.conftest import tiny

__all__ = ["open_doors", "pair", "pair_spec", "tiny"]


def pytest_itemcollected(item):
    """Whatever needs Ray and not the session's cluster has another."""
    if item.get_closest_marker("ray") and "cluster" not in item.fixturenames:
        item.add_marker(pytest.mark.own_cluster)
