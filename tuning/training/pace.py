"""How many epochs there is time for: a few steps of a network that is thrown away are timed."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quorate.tuning.data.labelled import Labelled
from quorate.tuning.training.epochs import Training
from quorate.tuning.training.training_run import TrainingRun

# What else a machine does for a moment should not decide for minutes: the median of some looks does.
_STEPS, _LOOKS = 4, 5
# Of the time, for judging each epoch and writing it down.
_SHARE = 0.85


def epochs_within(seconds: float, config: Mapping[str, Any], rows: Labelled, training: Training) -> int:
    """At least 1, at most those of ``training``.

    Args:
        seconds: that the training may take.
        config, rows, training: as of ``train``.
    """
    few = rows.rows(slice(0, _STEPS * training.batch_size))
    run = TrainingRun(config, few, rows.rows(slice(0, training.batch_size)), replace(training, epochs=_LOOKS + 1))
    run.step()  # the first steps of a process take longer
    looks = []
    for _ in range(_LOOKS):
        started = time.perf_counter()
        run.step()
        looks.append(time.perf_counter() - started)
    epoch_s = statistics.median(looks) * len(rows) / len(few)
    return max(1, min(training.epochs, math.floor(_SHARE * seconds / epoch_s)))
