"""Members' predictions from what a user has: a file, arrays by member, or ``Predictions``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from quorate.tuning.data.predictions_file import Predictions


def as_predictions(
    given: str | Path | Predictions | Mapping[str, ArrayLike], labels: ArrayLike | None, label: str
) -> tuple[str, Predictions]:
    """What they are called, and the predictions.

    Raises:
        DataError: a file that cannot be read, or arrays and labels that do not fit each other.
    """
    import numpy as np

    from quorate.deployments.learning.reading import is_record
    from quorate.tuning.data.labelled import true_values
    from quorate.tuning.data.predictions_file import Predictions, read_predictions
    from quorate.tuning.data.recorded import read_record
    from quorate.tuning.errors import DataError
    from quorate.tuning.scoring import check_predictions

    if isinstance(given, (str, Path)) and is_record(given):
        return "record", read_record(given, label)
    if isinstance(given, (str, Path)):
        return Path(given).stem, read_predictions(given, label)
    if isinstance(given, Predictions):
        return "predictions", given
    if labels is None:
        raise DataError("labels", "there are none", "give the index of each row's true class")
    arrays = {str(name): np.asarray(array) for name, array in given.items()}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) != 1:
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise DataError("predictions", found or "no member", "give each member (rows, classes) probabilities")
    if np.asarray(labels).dtype.kind == "f":
        values = np.stack([array.reshape(len(array), -1) for array in arrays.values()])
        true = true_values(np.asarray(labels), "labels")
        if values.shape[1:] != true.reshape(len(true), -1).shape:
            found = f"shape {true.shape} with {values.shape[1:]} of each member"
            raise DataError("labels", found, "give as many true values, or the index of each row's class as an integer")
        return "predictions", Predictions(tuple(arrays), (), values, true)
    outputs, truth = check_predictions(np.stack(list(arrays.values())), labels, "log_loss")
    classes = tuple(str(number) for number in range(outputs.shape[2]))
    return "predictions", Predictions(tuple(arrays), classes, outputs, truth)
