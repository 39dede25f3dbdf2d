"""Make a spec of an AutoGluon predictor: its models are the members, its ensemble's weights the fusion's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quorate.deployments.display import Displayed, Table
from quorate.deployments.errors import RequestError
from quorate.deployments.spec.files import parse_spec, save_spec
from quorate.fusion.extras import require

SPEC, PREDICTOR = "spec.yaml", "predictor"
# AutoGluon's raw types, as a request carries them; text and dates are text, empty where they are missing.
_DATATYPES = {"float": "FP64", "int": "INT64", "bool": "BOOL"}


@dataclass(frozen=True, repr=False)
class Imported(Displayed):
    """What was written.

    Attributes:
        spec: the spec file.
        weights: of each member.
    """

    spec: Path
    name: str
    weights: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return {**asdict(self), "spec": str(self.spec)}

    def tables(self) -> Sequence[Table]:
        rows = [[member, f"{weight:.4f}"] for member, weight in self.weights.items()]
        return [Table(["member", "weight"], rows, lines=[f"wrote {self.spec}: quorate deploy {self.spec}"])]


def import_autogluon(
    folder: str | Path,
    *,
    out: str | Path,
    name: str | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Imported:
    """Write a spec whose answers are the predictor's own ``predict_proba``, or its values.

    The predictor is a pickle: **its code is run**, here and in each member. What its best model needs is copied.

    Args:
        folder: that a ``TabularPredictor`` was saved in.
        out: the folder to write, which must be new or empty.
        name: of the ensemble; that of the folder when None.
        on_step: told what happens next.

    Raises:
        RequestError: the folder cannot be read, or holds what cannot be a spec.
    """
    source, target, tell = Path(folder), Path(out), on_step or (lambda step: None)
    if not (source / "predictor.pkl").is_file():
        raise RequestError(f"{source} is no folder of an AutoGluon predictor; give the path that it was saved in")
    if target.exists() and any(target.iterdir()):
        raise RequestError(f"{target} is not empty; give the folder to write another name")
    require("autogluon", "importing a predictor")
    tell(f"warning: {source} is a pickle, whose code runs now and in each member: go on only if you trust it")
    predictor = _loaded(source)
    weights, temperature = _weights(predictor)
    data = _spec(predictor, _plain(name or source.resolve().name), weights, temperature)
    spec = parse_spec(data)
    tell(f"copying what {predictor.model_best} needs")
    target.mkdir(parents=True, exist_ok=True)
    predictor.clone_for_deployment(str(target / PREDICTOR))
    save_spec(spec, target / SPEC)
    return Imported(target / SPEC, spec.name, dict(data["fusion"]["weights"]))


def _loaded(folder: Path) -> Any:
    from autogluon.tabular import TabularPredictor

    try:
        predictor = TabularPredictor.load(str(folder), verbosity=0)
    except Exception as error:  # what a pickle holds may raise anything
        found = f"{type(error).__name__}: {str(error)[:300]}"
        raise RequestError(f"{folder} cannot be loaded: {found}; use the AutoGluon that saved it") from None
    if predictor.problem_type not in ("binary", "multiclass", "regression"):
        raise RequestError(f"{folder} predicts {predictor.problem_type}, which is not imported; wrap it in a factory")
    return predictor


def _weights(predictor: Any) -> tuple[dict[str, float], float | None]:
    """What each model adds to the best one, and the temperature of that; a single model has all the weight."""
    best = predictor._trainer.load_model(predictor.model_best)
    if not hasattr(best, "_get_model_weights"):
        return {predictor.model_best: 1.0}, None
    weights = {name: float(weight) for name, weight in best._get_model_weights().items() if weight}
    return weights, best.temperature_scalar


def _spec(predictor: Any, name: str, weights: Mapping[str, float], temperature: float | None) -> dict[str, Any]:
    kinds = predictor.feature_metadata_in.type_map_raw
    inputs = {_plain(column): _tensor(kinds.get(column, "object")) for column in predictor.original_features}
    if len(inputs) < len(predictor.original_features):
        raise RequestError("two columns have the same name but for signs that a spec's inputs cannot have; rename one")
    classifies = predictor.problem_type != "regression"
    members = {
        _plain(model): {
            "model": f"autogluon:{PREDICTOR}",
            "config": {"model": model, "allow_pickle": True},
            "inputs": list(inputs),
            "output": "probabilities" if classifies else "values",
        }
        for model in weights
    }
    fusion: dict[str, Any] = {
        "rule": "weighted_mean",
        "weights": {_plain(model): weight for model, weight in weights.items()},
    }
    if temperature is not None and classifies:
        fusion["calibration"] = {"temperature": float(temperature)}
    classes = [str(label) for label in predictor.class_labels] if classifies else None
    return {"name": name, "inputs": inputs, "classes": classes, "members": members, "fusion": fusion}


def _tensor(kind: str) -> dict[str, Any]:
    return {"datatype": _DATATYPES.get(kind, "BYTES"), "shape": []}


def _plain(name: str) -> str:
    """A name as specs have them."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-") or "model"
