"""Ensembles behind both doors without Ray, as the tests of deployments have them, and the tiny one of tuning's."""

from tests.deployments.conftest import open_doors, pair, pair_spec
from tests.tuning.conftest import tiny

__all__ = ["open_doors", "pair", "pair_spec", "tiny"]
