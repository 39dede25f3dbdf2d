"""Ensembles behind both doors without Ray, as the tests of deployments have them."""

from tests.deployments.conftest import open_doors, pair, pair_spec

__all__ = ["open_doors", "pair", "pair_spec"]
