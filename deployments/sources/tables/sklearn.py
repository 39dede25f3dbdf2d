"""scikit-learn's estimators and pipelines, ``.skops``, a format that names every type before one is made."""

# B batch, F features, K classes

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.sources.model import Model
from quorate.deployments.sources.request import LoadRequest
from quorate.deployments.sources.tables.columns import Columns, as_text
from quorate.deployments.sources.tables.outputs import as_asked, check_classifies
from quorate.deployments.spec.model_files.input_names import plain_name
from quorate.deployments.wire.class_names import class_name

Array = NDArray[Any]
# A dtype runs no code and holds no memory; encoders have one, and skops asks for it. Trees it asks for rightly: their
# indices are followed unchecked.
HARMLESS = ("numpy.dtype",)


def load(request: LoadRequest) -> Model:
    """Load an estimator. ``config: {trusted: [TYPE, ...]}`` allows types beyond those that skops knows."""
    io = request.library("skops.io", "sklearn")
    trusted = [*HARMLESS, *request.settings({"trusted": list}).get("trusted", ())]
    try:
        untrusted = [found for found in io.get_untrusted_types(file=request.path) if found not in trusted]
        if untrusted:
            raise _untrusted(request, untrusted)
        estimator = io.load(request.path, trusted=trusted)
    except (KeyError, ValueError, TypeError, AttributeError, ImportError, OSError, RuntimeError, BadZipFile) as error:
        found = f"{request.path.name} cannot be loaded: {type(error).__name__}: {str(error)[:200]}"
        raise request.error(found, "save it with skops.io.dump, and install what it is made of") from None
    return estimator_model(request, estimator)


def estimator_model(request: LoadRequest, estimator: Any) -> Model:
    """A fitted estimator as a model: probabilities of its classes, values, or features of what only transforms."""
    from threadpoolctl import ThreadpoolController

    _set_jobs(estimator, request.threads)
    read, answer = _reader(request, estimator), _answer(request, estimator)
    pools = ThreadpoolController()

    def predict(*arrays: Array) -> Array:
        with pools.limit(limits=request.threads):
            return answer(read(arrays))

    model = request.model(predict, tensors=False, classes=_classes(request, estimator))
    called = dict(zip(request.spec.model_inputs, request.spec.inputs, strict=True))
    known = [(called.get(name) or called.get(plain_name(name)), text) for name, text in _known_texts(estimator)]
    model.content = {source: text for source, text in known if source is not None}
    return model


def _untrusted(request: LoadRequest, types: Sequence[str]) -> Exception:
    found = f"{request.path.name} holds types that skops does not trust: {', '.join(types)}"
    return request.error(found, f"if you trust who made it, write config: {{trusted: [{', '.join(types)}]}}")


def _set_jobs(estimator: Any, threads: int) -> None:
    jobs = [name for name in estimator.get_params() if name.rpartition("__")[2] == "n_jobs"]
    estimator.set_params(**dict.fromkeys(jobs, threads))


def _answer(request: LoadRequest, estimator: Any) -> Callable[[Any], Array]:
    """What gives the member's output from what the estimator reads."""
    if hasattr(estimator, "predict_proba"):
        return lambda rows: as_asked(request, _probabilities(estimator.predict_proba(rows)))
    if hasattr(estimator, "classes_") and hasattr(estimator, "decision_function"):
        if request.spec.output == "probabilities":
            fix = (
                "write output: logits to take its decision function for them, or calibrate it (CalibratedClassifierCV)"
            )
            raise request.error(f"{type(estimator).__name__} gives no probabilities", fix)
        return lambda rows: _margins(estimator.decision_function(rows))
    if hasattr(estimator, "predict"):
        check_classifies(request, False, type(estimator).__name__)
        return lambda rows: np.asarray(estimator.predict(rows))
    if hasattr(estimator, "transform"):
        check_classifies(request, False, f"{type(estimator).__name__} transforms")
        return lambda rows: _dense(estimator.transform(rows))
    raise request.error(f"{type(estimator).__name__} neither predicts nor transforms", "save what predicts")


def _probabilities(found: Any) -> Array:
    """(B, K); of several outputs, which are a list of (B, 2), the second column of each."""
    return np.stack([each[:, -1] for each in found], axis=1) if isinstance(found, list) else np.asarray(found)


def _margins(found: Array) -> Array:
    return found if found.ndim == 2 else np.stack([np.zeros_like(found), found], axis=1)


def _dense(found: Any) -> Array:
    return np.asarray(found.toarray() if hasattr(found, "toarray") else found)


def _classes(request: LoadRequest, estimator: Any) -> tuple[str, ...] | None:
    """The classes by name; none of values, and of several labels a row, whose names it does not know."""
    classes = getattr(estimator, "classes_", None)
    final = getattr(estimator, "_final_estimator", estimator)
    several = isinstance(classes, list) or getattr(final, "multilabel_", False) or _is_label_network(final)
    if classes is None or several or request.spec.output not in ("logits", "probabilities"):
        return None
    return tuple(map(class_name, classes))


def _is_label_network(estimator: Any) -> bool:
    """Whether it is a perceptron that was trained on a matrix of labels."""
    return getattr(estimator, "out_activation_", "") == "logistic" and getattr(estimator, "n_outputs_", 1) > 1


def _reader(request: LoadRequest, estimator: Any) -> Callable[[Sequence[Array]], Any]:
    names = getattr(estimator, "feature_names_in_", None)
    count = getattr(estimator, "n_features_in_", None)
    if names is None and count is None and len(request.preprocessing.names) == 1:
        return lambda arrays: _documents(arrays[0])
    columns = Columns(request, None if names is None else [str(name) for name in names], count)
    if names is None:
        return lambda arrays: _matrix(columns, arrays)
    keep = set(_text_columns(estimator))
    return lambda arrays: _frame(columns, names, arrays, keep)


def _documents(array: Array) -> Any:
    """What vectorizers read, a text a row; of numbers the rows themselves."""
    return list(as_text(array.reshape(-1), "")) if array.dtype == object else _wide(array.reshape(len(array), -1))


def _matrix(columns: Columns, arrays: Sequence[Array]) -> Array:
    if all(array.dtype != object for array in arrays):
        return columns.matrix(arrays, np.float64)
    parts = [as_text(part, np.nan) if part.dtype == object else part for part in columns.read(arrays)]
    rows = np.empty((len(parts[0]), len(parts)), object)
    for place, part in enumerate(parts):
        rows[:, place] = part
    return rows


def _frame(columns: Columns, names: Sequence[str], arrays: Sequence[Array], keep: set[str]) -> Any:
    """A frame as pandas reads one: text, NaN where it is missing, and numbers as wide as those trained on."""
    import pandas as pd

    data = {}
    for name, column in zip(names, columns.read(arrays), strict=True):
        text = column.dtype == object
        data[name] = pd.Series(as_text(column, "" if name in keep else np.nan)) if text else _wide(column)
    return pd.DataFrame(data)


def _wide(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype.kind not in "biu" else array


def _known_texts(estimator: Any) -> Iterator[tuple[str, str]]:
    """A category of each column that an encoder of a data frame's columns knows."""
    for _, step in getattr(estimator, "steps", ()):
        yield from _known_texts(step)
    for _, transformer, columns in getattr(estimator, "transformers_", ()):
        inner = [step for _, step in getattr(transformer, "steps", [("", transformer)])]
        lists = next((step.categories_ for step in inner if hasattr(step, "categories_")), ())
        if not isinstance(columns, str) and len(lists) == len(columns):
            for name, values in zip(columns, lists, strict=True):
                yield from [(str(name), value) for value in values if isinstance(value, str)][:1]


def _text_columns(estimator: Any) -> Iterator[str]:
    """Columns that go alone to a transformer of documents, to which the empty text is one, too."""
    for _, step in getattr(estimator, "steps", ()):
        yield from _text_columns(step)
    for _, _, columns in getattr(estimator, "transformers_", ()):
        if isinstance(columns, str):
            yield columns
