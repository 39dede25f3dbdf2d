"""Re-estimated batch-norm statistics against the data and against PyTorch's own update_bn."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from quorate.fusion import reestimate_batchnorm
from quorate.fusion.errors import RuleOptionError
from tests.fusion.support.digits_networks import TRAIN, digits, network, trained


def test_batchnorm_statistics_are_those_of_the_data() -> None:
    images, _ = digits()
    model = trained(network(0), 0, 20)
    assert reestimate_batchnorm(model, [images]) == 1
    linear, norm = model[0].state_dict(), model[1].state_dict()
    hidden = images.double().numpy() @ linear["weight"].double().numpy().T + linear["bias"].numpy()
    np.testing.assert_allclose(norm["running_mean"], hidden.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm["running_var"], hidden.var(0, ddof=1), rtol=1e-4, atol=1e-5)


def test_batchnorm_statistics_are_those_of_update_bn_where_there_is_no_dropout() -> None:
    images, _ = digits()
    batches = list(images[TRAIN].split(200))
    ours = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8), nn.BatchNorm1d(8)).eval()
    theirs = copy.deepcopy(ours)
    assert reestimate_batchnorm(ours, batches) == 2
    torch.optim.swa_utils.update_bn(batches, theirs)
    for key, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], tensor)


def test_reestimation_leaves_dropout_off_and_modes_and_momenta_alone() -> None:
    images, _ = digits()
    behind_dropout = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(64, momentum=0.3))
    behind_dropout[1].eval()
    reestimate_batchnorm(behind_dropout, [images])
    torch.testing.assert_close(behind_dropout[1].running_mean, images.mean(0))
    assert [m.training for m in behind_dropout.modules()] == [True, True, False]
    assert behind_dropout[1].momentum == 0.3


def test_reestimation_without_batches_is_refused_and_keeps_the_old_statistics() -> None:
    model = trained(network(0), 0, 20)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuleOptionError, match="batches"):
        reestimate_batchnorm(model, [])
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_model_without_batchnorm_is_not_run() -> None:
    assert reestimate_batchnorm(nn.Linear(64, 2), [torch.zeros(1, 3)]) == 0
