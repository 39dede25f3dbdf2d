"""XGBoost's models, ``.json`` and ``.ubj``, as ``save_model`` writes them."""

# B batch, F features, K classes

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.sources.model import Model
from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.sources.tables.columns import Codes, Columns, codes_of
from quorate.deployments.sources.tables.outputs import (
    as_asked,
    both_classes,
    check_classifies,
    numbers,
    sigmoid,
    softmax,
)

Array = NDArray[Any]
_BINARY = ("binary:logistic", "binary:logitraw", "binary:hinge", "reg:logistic")
# Those that give a class's number, or its margin, where its probability is asked for.
_MARGINS = {"binary:logitraw": sigmoid, "multi:softmax": softmax}


def load(request: LoadRequest) -> Model:
    """Load a booster. Classes are numbered in it, whatever the labels were."""
    xgboost = request.library("xgboost", "xgboost")
    booster = xgboost.Booster({"nthread": request.threads})
    try:
        booster.load_model(request.path)
    except (xgboost.core.XGBoostError, ValueError) as error:
        found = f"{request.path.name} is no model of XGBoost: {str(error).strip().splitlines()[-1][:200]}"
        raise request.error(found, "save it with save_model, as .json or .ubj") from None
    return _model(request, booster)


def _model(request: LoadRequest, booster: Any) -> Model:
    learner = json.loads(booster.save_config())["learner"]
    objective = learner["objective"]["name"]
    multi, binary = objective.startswith("multi:"), objective in _BINARY
    check_classifies(request, multi or binary, f"objective {objective}")
    columns, codes = Columns(request, booster.feature_names, booster.num_features()), _codes(booster)
    best = booster.attr("best_iteration")  # as XGBoost's own estimators predict after early stopping
    trees = (0, 0 if best is None else int(best) + 1)
    kind = "margin" if objective in _MARGINS else "value"
    margins = _MARGINS.get(objective)

    def predict(*arrays: Array) -> Array:
        rows = columns.matrix(arrays, np.float32, codes)
        found = booster.inplace_predict(rows, iteration_range=trees, predict_type=kind)
        found = margins(found) if margins else found
        if not (multi or binary):
            return np.asarray(found)
        return as_asked(request, both_classes(found) if binary else found)

    return request.model(predict, tensors=False, classes=_classes(learner, binary))


def _classes(learner: Any, binary: bool) -> tuple[str, ...] | None:
    parameters = learner["learner_model_param"]
    labels = int(parameters.get("num_target", 1))  # several: a row may have more than one
    count = 2 if binary and labels == 1 else int(parameters["num_class"])
    return numbers(count) if count > 1 else None


def _codes(booster: Any) -> dict[int, Codes]:
    """Codes of categories, by feature; models of XGBoost before 3.1 do not tell, and read the codes themselves."""
    if "c" not in (booster.feature_types or ()) or not hasattr(booster, "get_categories"):
        return {}
    values = booster.get_categories(export_to_arrow=True).to_arrow()
    return {place: codes_of(found.to_pylist()) for place, (_, found) in enumerate(values) if found is not None}
