"""How many epochs there is time for: a few steps of a network that is thrown away are timed."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quorate.tuning.data.labelled import Labelled
from quorate.tuning.training.epochs import Training
from quorate.tuning.training.training_run import TrainingRun

_STEPS = 4
# Of the time, for judging each epoch and writing it down.
_SHARE = 0.85


def epochs_within(seconds: float, config: Mapping[str, Any], rows: Labelled, training: Training) -> int:
    """At least 1, at most those of ``training``.

    Args:
        seconds: that the training may take.
        config, rows, training: as of ``train``.
    """
    few = rows.rows(slice(0, _STEPS * training.batch_size))
    run = TrainingRun(config, few, rows.rows(slice(0, training.batch_size)), replace(training, epochs=2))
    run.step()  # the first steps of a process take longer
    started = time.perf_counter()
    run.step()
    epoch_s = (time.perf_counter() - started) * len(rows) / len(few)
    return max(1, min(training.epochs, math.floor(_SHARE * seconds / epoch_s)))
