"""What a sweep tries first, and rounds of it."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_wine

from quorate.deployments import load_spec
from quorate.deployments.engine.revision import build_revision
from quorate.tuning import Labelled, SearchSpace, run_in_process, sweep
from quorate.tuning.data.labelled import split
from quorate.tuning.search.budget import Budget
from quorate.tuning.search.portfolio import portfolio
from quorate.tuning.search.space import Family
from tests.tuning.support.small_sweep import small

SMALL: dict[str, Any] = {
    "trials": 3,
    "parallel": 3,
    "objectives": ("log_loss", "memory_bytes"),
    "workers": 2,
    "check": 0,
}


class Twice(Budget):
    """Two rounds, however long they take."""

    def rounds(self):
        yield 1
        yield 2


@pytest.fixture(scope="module")
def wine():
    """Two inputs of plain numbers, of very different size."""
    rows, labels = load_wine(return_X_y=True)
    rows = rows.astype(np.float32)
    return split(Labelled({"some": rows[:, :5], "others": rows[:, 5:]}, labels.astype(np.int64), ("a", "b", "c")))


def test_two_rounds_over_a_table_train_the_portfolio_and_what_comes_out_answers(cluster, wine, tmp_path):
    space = SearchSpace(
        name="wine", epochs=2, topologies=("parallel", "chain"), head_trials=1, candidates=1, batch_size=16
    )
    result = sweep(space, wine, runs=tmp_path, member_trials=3, time_s=Twice(), **SMALL)
    assert [trial.failure for trial in result.members] == [None] * 6
    first = portfolio(space.fitting((13,)), (13,))
    assert [dict(trial.params) for trial in result.members] == first
    assert [trial.number for trial in result.structures] == [0, 1, 2]
    folder = result.folder / "pareto" / "0"
    spec = load_spec(folder / "spec.yaml")
    revision = build_revision(spec, folder)
    outputs = np.stack([run_in_process(spec.job(name), folder, wine.test.inputs) for name in revision.asked])
    fused = revision.fuse(outputs, np.ones(outputs.shape[:2], bool)).values
    np.testing.assert_allclose(fused, result.best.fused, atol=1e-5)


def test_given_networks_are_trained_on_before_the_portfolio(cluster, tiny, tmp_path):
    space = SearchSpace(
        name="tiny", families={"mlp": Family(width=(16, 24), depth=(1, 2))}, epochs=1, topologies=("parallel",)
    )
    parts = small(tiny.splits)
    result = sweep(tiny.spec, parts, space=space, folder=tiny.folder, runs=tmp_path, member_trials=4, **SMALL)
    assert [trial.params["mlp.width"] for trial in result.members] == [4, 12, 32, 24]
    strong, new = (trial.details["history"][0]["validation_log_loss"] for trial in result.members[2:])
    assert strong < 0.5 * new
