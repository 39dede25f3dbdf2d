"""BatchNorm statistics of merged parameters, measured anew (Izmailov et al. 2018, "Averaging weights", section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from quorate.fusion.errors import RuleOptionError


def reestimate_batchnorm(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace the running mean and variance of every BatchNorm layer by their average over batches.

    Unlike ``torch.optim.swa_utils.update_bn`` only the BatchNorm layers are put in training mode: dropout stays off, so
    that the statistics are those of inference. Every batch counts the same: give batches of one size.

    Args:
        model: changed in place; modes and momenta are as before afterwards.
        batches: model inputs, (B, ...) each.

    Returns:
        How many layers got new statistics; 0 for a model without BatchNorm, which is then not run.

    Raises:
        RuleOptionError: there is no batch.
    """
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not layers:
        return 0
    remaining = iter(batches)
    first = next(remaining, None)
    if first is None:  # asked before the old statistics are gone
        raise RuleOptionError("reestimate_batchnorm", "batches", 0, "give at least one batch of model inputs")
    modes = {module: module.training for module in model.modules()}
    momenta = {layer: layer.momentum for layer in layers}
    try:
        model.eval()
        for layer in layers:
            layer.train()
            layer.reset_running_stats()
            layer.momentum = None  # torch: a cumulative average
        with torch.no_grad():
            for batch in chain([first], remaining):
                model(batch)
    finally:
        for module, training in modes.items():
            module.training = training
        for layer, momentum in momenta.items():
            layer.momentum = momentum
    return len(layers)
