import numpy as np
import pytest
import torch

from quorate.tuning import Labelled, Training
from quorate.tuning.architectures.table_network import TableNet
from quorate.tuning.training.training_run import TrainingRun


def network(rows, bins=4):
    found = TableNet((1, 1, rows.shape[1]), 2, width=8, depth=1, bins=bins).eval()
    found.fit_inputs(rows)
    return found


def test_edges_are_quantiles_or_the_distinct_values_where_there_are_few():
    rows = torch.stack([torch.arange(101.0), torch.arange(101) % 3 * 10.0], dim=1)
    edges = network(rows).edges
    assert edges[0].tolist() == np.quantile(np.arange(101), [0, 0.25, 0.5, 0.75, 1]).tolist()
    assert edges[1].tolist() == [0, 10, 20, 20, 20]


def test_the_scale_of_a_column_does_not_matter():
    rows = torch.rand(50, 3)
    scaled = rows * torch.tensor([1.0, 1e6, 1e-6])
    first, second = network(rows), network(scaled)
    second.load_state_dict({**first.state_dict(), "edges": second.edges})
    torch.testing.assert_close(second(scaled), first(rows), atol=1e-4, rtol=1e-4)


def test_missing_numbers_have_answers_and_several_inputs_are_read_side_by_side():
    rows = torch.rand(6, 3)
    rows[2, 1] = torch.nan
    found = network(rows)
    assert found(rows).isfinite().all()
    torch.testing.assert_close(found(rows[:, :1], rows[:, 1:]), found(rows))


@pytest.mark.parametrize("codes", [True, False])
def test_what_depends_on_one_category_is_learned_from_its_code(codes):
    random = np.random.default_rng(0)
    row = np.stack([random.integers(0, 12, 600), random.normal(0, 1e5, 600)], axis=1).astype(np.float32)
    labels = (row[:, 0] % 2 if codes else row[:, 1] > 0).astype(np.int64)
    data = Labelled({"row": row}, labels, ("even", "odd"))
    how = Training(epochs=8, batch_size=32, learning_rate=5e-3)
    run = TrainingRun({"family": "table", "width": 16, "depth": 1, "bins": 16}, data, data, how)
    while not run.finished:
        run.step()
    assert run.result().best.validation_accuracy > 0.97
