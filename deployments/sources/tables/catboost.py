"""CatBoost's models, ``.cbm``, as ``save_model`` writes them."""

# B batch, F features, K classes

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.sources.model import Model
from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.sources.tables.columns import Columns, as_text
from quorate.deployments.sources.tables.outputs import as_asked, check_classifies
from quorate.deployments.wire.class_names import class_name

Array = NDArray[Any]
_LABELS = ("MultiLogloss", "MultiCrossEntropy")  # several of a row
_CLASSES = ("Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll", *_LABELS)
_LOG_LINKS = ("Poisson", "Tweedie")  # CatBoost's own regressor answers with the exponent of what these add up


def load(request: LoadRequest) -> Model:
    """Load a model. ``config: {missing: TEXT}`` is what missing text was in training; the empty text if left out."""
    catboost = request.library("catboost", "catboost")
    missing = request.settings({"missing": str}).get("missing", "")
    model = catboost.CatBoost()
    try:
        model.load_model(str(request.path))
    except catboost.CatBoostError as error:
        found = f"{request.path.name} is no model of CatBoost: {str(error).splitlines()[0][-200:]}"
        raise request.error(found, "save it with save_model, as .cbm") from None
    return _model(request, model, missing)


def _model(request: LoadRequest, model: Any, missing: str) -> Model:
    loss = (model.get_all_params() or {}).get("loss_function", "RMSE").partition(":")[0]
    classifies = loss in _CLASSES
    check_classifies(request, classifies, f"loss function {loss}")
    if model.get_embedding_feature_indices():
        raise request.error("the model reads embeddings", "write a factory that calls it")
    kind = "Probability" if classifies else "Exponent" if loss in _LOG_LINKS else "RawFormulaVal"
    names = model.feature_names_
    unnamed = names == [str(place) for place in range(len(names))]
    columns = Columns(request, None if unnamed else names, len(names))
    words = {*model.get_cat_feature_indices(), *model.get_text_feature_indices()}

    def predict(*arrays: Array) -> Array:
        rows = _rows(columns.read(arrays), words, missing) if words else columns.matrix(arrays, np.float32)
        found = np.asarray(model.predict(rows, prediction_type=kind, thread_count=request.threads))
        return as_asked(request, found) if classifies else found

    named = classifies and loss not in _LABELS
    classes = tuple(map(class_name, model.classes_)) if named else None
    return request.model(predict, tensors=False, classes=classes)


def _rows(columns: list[Array], words: set[int], missing: str) -> Array:
    """(B, F) objects: text and whole numbers where the model reads categories or text, else numbers."""
    rows = np.empty((len(columns[0]), len(columns)), object)
    for place, column in enumerate(columns):
        rows[:, place] = as_text(column, missing) if column.dtype == object and place in words else column
    return rows
