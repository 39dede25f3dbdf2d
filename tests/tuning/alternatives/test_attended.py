"""Attention over members is not surer than rows without an error allow."""

import numpy as np
from scipy.special import softmax

from quorate.tuning import Outputs
from quorate.tuning.alternatives.attended import Attended
from quorate.tuning.alternatives.base import recipe_of


def test_of_members_that_were_never_wrong_attention_does_not_make_a_row_of_thirty_nats():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 600)
    seen = 30 * np.eye(2)[labels] + random.normal(0, 1, (3, 600, 2))
    rows = Outputs(("a", "b", "c"), softmax(seen, axis=2).astype(np.float32), labels)
    recipe = recipe_of(Attended().fit(rows, 0))
    assert recipe is not None
    said = recipe.fuse(rows.names, rows.probs).astype(float)
    assert (said.argmax(axis=1) == labels).all()
    assert said.min() > 1 / 6000  # some -log 1e-13 without
