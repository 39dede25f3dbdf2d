"""The single solve is the oracle: what four actors find over a quarter of the rows each must be the same."""

import logging

import numpy as np
import pytest

from quorate.tuning import PredictionShards, PredictionStore, greedy_weights, simplex_weights
from quorate.tuning.errors import PredictionError, TuningError


def predictions(members, rows, classes, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = rng.normal(size=(members, rows, classes)) + rng.normal(size=(rows, classes))
    logits[:, np.arange(rows), labels] += rng.uniform(0.5, 1.5, members)[:, None]
    probs = np.exp(logits)
    return probs / probs.sum(-1, keepdims=True), labels


PROBS, LABELS = predictions(12, 30_001, 4, 0)  # more rows than the solver's first guess needs, and not a multiple of 4


@pytest.fixture(scope="module")
def shards(cluster):
    with PredictionShards.from_arrays(PROBS, LABELS, shards=4) as shards:
        yield shards


@pytest.mark.parametrize("metric", ["log_loss", "brier"])
def test_four_actors_solve_to_the_single_solves_weights(shards, metric):
    one, four = simplex_weights(PROBS, LABELS, metric), shards.simplex_weights(metric)
    np.testing.assert_allclose(four.values, one.values, atol=1e-9, rtol=0)
    assert four.score == pytest.approx(one.score, abs=1e-9)
    assert four.gap == pytest.approx(one.gap, abs=1e-9)


@pytest.mark.parametrize("metric", ["log_loss", "brier", "accuracy"])
def test_four_actors_select_the_same_members(shards, metric):
    one, four = greedy_weights(PROBS, LABELS, metric=metric), shards.greedy_weights(metric=metric)
    np.testing.assert_array_equal(four.values, one.values)
    assert four.score == pytest.approx(one.score, abs=1e-9)
    assert (four.gap is None) == (one.gap is None)


def test_values_are_solved_over_shards_too(cluster):
    values, truth = PROBS[:5, :400, 1], (LABELS[:400] == 1).astype(float)
    with PredictionShards.from_arrays(values, truth, shards=2) as shards:
        np.testing.assert_allclose(
            shards.simplex_weights("rmse").values, simplex_weights(values, truth, "rmse").values, atol=1e-9
        )
        np.testing.assert_array_equal(
            shards.greedy_weights(metric="rmse").values, greedy_weights(values, truth, metric="rmse").values
        )


def test_the_order_of_shards_and_answers_changes_no_bit(shards):
    for solve in ("simplex_weights", "greedy_weights"):
        one = getattr(shards, solve)()
        shards._actors.reverse()
        other = getattr(shards, solve)()
        np.testing.assert_array_equal(one.values, other.values)
        assert (one.score, one.gap) == (other.score, other.gap)


def test_what_travels_in_a_round_does_not_grow_with_the_rows(shards, monkeypatch):
    sizes: list[int] = []
    ask = type(shards).ask

    def watched(self, method, *arguments):
        answers = ask(self, method, *arguments)
        sizes.extend(np.size(value) for value in (*arguments, *answers))
        return answers

    monkeypatch.setattr(type(shards), "ask", watched)
    shards.simplex_weights()
    assert max(sizes) == 12 * 12
    sizes.clear()
    shards.greedy_weights()
    assert max(sizes) == 13


def test_actors_read_their_rows_of_a_store_themselves(cluster, tiny, tmp_path):
    rows = tiny.splits.validation
    names = list(tiny.spec.members)
    store = PredictionStore(tmp_path / "predictions", partition_bytes=100 * 10 * 4)
    store.fill(tiny.spec, tiny.folder, rows, "validation")
    probs = np.stack(store.read("validation", names))
    with PredictionShards.from_store(store, "validation", names, rows.labels, shards=3) as shards:
        one, three = simplex_weights(probs, rows.labels), shards.simplex_weights()
        np.testing.assert_allclose(three.values, one.values, atol=1e-9)
        np.testing.assert_array_equal(
            shards.greedy_weights(metric="accuracy").values,
            greedy_weights(probs, rows.labels, metric="accuracy").values,
        )
        path = tmp_path / "predictions" / "validation" / names[0] / "00001.arrow"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(PredictionError, match="partition 1 of 4 is damaged"):
            shards.simplex_weights()


def test_an_actor_that_dies_is_a_typed_error(cluster):
    logging.getLogger("ray").setLevel(logging.ERROR)
    with PredictionShards.from_arrays(PROBS[:, :100], LABELS[:100], shards=2) as shards:
        shards.simplex_weights()
        cluster.kill(shards._actors[1])
        with pytest.raises(PredictionError, match="start the shards again"):
            shards.simplex_weights()


def test_what_is_no_sum_over_rows_is_refused(shards):
    with pytest.raises(TuningError, match="cannot be sharded"):
        shards.greedy_weights(metric="roc_auc")
    with pytest.raises(TuningError, match="use greedy_weights"):
        shards.simplex_weights("accuracy")
    with pytest.raises(TuningError, match="give 1 to 3"):
        PredictionShards.from_arrays(PROBS[:, :3], LABELS[:3], shards=4)
