"""Scikit-learn's breast cancer data as a table: names with spaces, text, missing values; and how it is served."""

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

from quorate.deployments import load_model, parse_spec
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.wire.datatypes import bytes_array

COLUMNS = {"mean radius": "FP64", "area error": "FP64", "size": "BYTES", "points": "INT64"}
PLAIN = ("mean_radius", "area_error", "size", "points")


def patients() -> tuple[pd.DataFrame, np.ndarray]:
    """(569, 4) columns, some numbers and sizes missing, and the diagnoses."""
    data = load_breast_cancer(as_frame=True)
    sizes = pd.cut(data.frame["mean area"], [0, 400, 600, 800, 9999], labels=["small", "middle", "large", "huge"])
    points = (100 * data.frame["mean concave points"]).astype(int)
    frame = data.frame[["mean radius", "area error"]].assign(size=sizes.astype(str), points=points)
    frame.loc[::7, "area error"] = np.nan
    frame.loc[::11, "size"] = np.nan
    return frame, np.where(data.target == 1, "benign", "malignant")


def served(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns as a request has them: text as bytes, empty where it is missing."""
    texts = {name for name, datatype in COLUMNS.items() if datatype == "BYTES"}
    columns = {
        name: bytes_array([v.encode() for v in frame[name].fillna("")]) if name in texts else frame[name].to_numpy()
        for name in frame
    }
    return {name.replace(" ", "_"): column for name, column in columns.items()}


def spec_of(model, names=("benign", "malignant"), inputs=PLAIN, tensors=None, **member):
    """An ensemble of one member ``m``; ``tensors`` in the place of one input per column."""
    tensors = tensors or {
        name: {"datatype": datatype, "shape": []} for name, datatype in zip(PLAIN, COLUMNS.values(), strict=True)
    }
    member = {"model": model, "inputs": list(inputs), "output": "probabilities", **member}
    classes, fusion = list(names) if names else None, {"rule": "mean"}
    return parse_spec(
        {"name": "one", "inputs": tensors, "classes": classes, "members": {"m": member}, "fusion": fusion}
    )


def predictor_of(spec, folder) -> Predictor:
    """The member ``m``, warmed up."""
    predictor = Predictor(load_model("m", spec.members["m"], folder), spec.job("m"))
    predictor.warm_up()
    return predictor


def answers(spec, folder, inputs) -> np.ndarray:
    """What a fusion reads of the member ``m``; every row of it must be of use."""
    predictor = predictor_of(spec, folder)
    values, states = predictor.run({name: inputs[name] for name in spec.members["m"].inputs}, probabilities=True)
    assert not states.any(), predictor.last_error
    return values


def near(found, expected) -> None:
    """Equal to a millionth."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
