"""LightGBM's models, ``.txt``, as ``save_model`` writes them."""

# B batch, F features, K classes

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.sources.model import Model
from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.sources.tables.columns import Codes, ColumnError, Columns, codes_of
from quorate.deployments.sources.tables.outputs import as_asked, both_classes, check_classifies, numbers

Array = NDArray[Any]
_BINARY = ("binary", "cross_entropy", "cross_entropy_lambda")
_UNNAMED = re.compile(r"Column_\d+")


def load(request: LoadRequest) -> Model:
    """Load a booster. Classes are numbered in it, whatever the labels were."""
    lightgbm = request.library("lightgbm", "lightgbm")
    try:
        text = request.path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise request.error(f"{request.path.name} cannot be read: {error}", "save it with save_model") from None
    if not text.startswith("tree\n"):  # LightGBM itself reads anything, and may end the process
        raise request.error(f"{request.path.name} is no model of LightGBM", "save it with Booster.save_model")
    try:
        booster = lightgbm.Booster(model_str=text)
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        raise request.error(f"{request.path.name} is no model of LightGBM: {error}", "save it again") from None
    return _model(request, booster, text)


def _model(request: LoadRequest, booster: Any, text: str) -> Model:
    found = re.search(r"^objective=(\S+)", text, re.MULTILINE)
    objective = found[1] if found else "none"
    multi, binary = objective.startswith("multiclass"), objective in _BINARY
    check_classifies(request, multi or binary, f"objective {objective}")
    names = booster.feature_name()
    columns = Columns(request, None if all(map(_UNNAMED.fullmatch, names)) else names, len(names))
    categories, places = booster.pandas_categorical or (), _places(text)

    def predict(*arrays: Array) -> Array:
        codes = _codes(categories, places, columns.read(arrays)) if categories else None
        rows = columns.matrix(arrays, np.float64, codes)
        found = booster.predict(rows, num_threads=request.threads)
        if not (multi or binary):
            return np.asarray(found)
        return as_asked(request, both_classes(found) if binary else found)

    count = 2 if binary else booster.num_model_per_iteration()
    classes = numbers(count) if multi or binary else None
    return request.model(predict, tensors=False, classes=classes)


def _places(text: str) -> set[int]:
    """Features that are categories without an order; those with one stand nowhere in the file."""
    found = re.search(r"^\[categorical_feature: ([\d,]+)\]", text, re.MULTILINE)
    return {int(place) for place in found[1].split(",")} if found else set()


def _codes(categories: Sequence[Sequence[Any]], places: set[int], columns: Sequence[Array]) -> dict[int, Codes]:
    """Codes of the categories of a data frame, whose values stand in the file, but not which features they are of.

    Raises:
        ColumnError: there are more or fewer of these, so that it cannot be told.
    """
    places = places | {place for place, column in enumerate(columns) if column.dtype == object}
    if len(places) != len(categories):
        found = f"{len(places)} columns are text or categories, and the model was trained on {len(categories)} of these"
        raise ColumnError(f"{found}; give those BYTES, and all others numbers")
    return {place: _Known(codes_of(values)) for place, values in zip(sorted(places), categories, strict=True)}


class _Known(dict[bytes | float, float]):
    """Categories that were not trained on are missing values to LightGBM."""

    def __missing__(self, value: object) -> float:
        return float("nan")
