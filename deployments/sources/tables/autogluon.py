"""Models of an AutoGluon predictor, ``autogluon:FOLDER``: one of those that it trained, with its own preprocessing."""

# B batch, K classes

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.sources.model import Model
from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.sources.tables.columns import Columns, as_text
from quorate.deployments.sources.tables.outputs import as_asked, check_classifies
from quorate.deployments.wire.class_names import class_name

Array = NDArray[Any]
_log = logging.getLogger(__name__)
_CLASSIFY = ("binary", "multiclass")


def load(request: LoadRequest) -> Model:
    """Load a predictor and keep one of its models, ``config.model``; its best when left out.

    AutoGluon's folders are pickles, which ``config: {allow_pickle: true}`` allows.
    """
    settings = request.settings({"model": str, "allow_pickle": bool})
    if not settings.get("allow_pickle"):
        what = "an AutoGluon predictor is a pickle, which runs the code of whoever wrote it"
        raise request.error(what, "if you trust it, write config: {allow_pickle: true}")
    predictor = _predictor(request)
    name = settings.get("model", predictor.model_best)
    if name not in predictor.model_names():
        fix = f"it has {', '.join(predictor.model_names())}"
        raise request.error(f"config.model is {name}, which the predictor has not", fix)
    predictor.persist([name], with_ancestors=True, max_memory=None)
    return _model(request, predictor, name)


def _predictor(request: LoadRequest) -> Any:
    tabular = request.library("autogluon.tabular", "autogluon")
    _log.warning("members.%s: %s is read from pickles, as config.allow_pickle says", request.name, request.path)
    try:
        return tabular.TabularPredictor.load(str(request.path), verbosity=0)
    except Exception as error:  # what a pickle holds may raise anything
        found = f"{request.path.name} cannot be loaded: {type(error).__name__}: {str(error)[:300]}"
        raise request.error(found, "install the AutoGluon that saved it, on every node") from None


def _model(request: LoadRequest, predictor: Any, name: str) -> Model:
    classifies = predictor.problem_type in _CLASSIFY
    check_classifies(request, classifies, predictor.problem_type)
    frame = _frames(request, predictor)

    def predict(*arrays: Array) -> Array:
        rows = frame(arrays)
        if not classifies:
            return np.asarray(predictor.predict(rows, model=name))
        return as_asked(request, predictor.predict_proba(rows, model=name).to_numpy())

    classes = tuple(map(class_name, predictor.class_labels)) if classifies else None
    return request.model(predict, tensors=False, classes=classes)


def _frames(request: LoadRequest, predictor: Any) -> Callable[[Sequence[Array]], Any]:
    """What makes the frame of a batch, of the types that the predictor was trained on."""
    import pandas as pd

    kinds = predictor.feature_metadata_in.type_map_raw
    names = predictor.original_features
    columns = Columns(request, names)

    def frame(arrays: Sequence[Array]) -> Any:
        pairs = zip(names, columns.read(arrays), strict=True)
        return pd.DataFrame({name: _typed(column, kinds.get(name, "float")) for name, column in pairs})

    return frame


def _typed(column: Array, kind: str) -> Any:
    import pandas as pd

    if column.dtype != object:
        return column
    texts = as_text(column, np.nan)
    return pd.to_datetime(pd.Series(texts), errors="coerce") if kind == "datetime" else texts
