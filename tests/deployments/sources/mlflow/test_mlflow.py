"""MLflow's folders: flavours go to the source of their own format, with the names and types of the signature."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from quorate.deployments import load_spec
from quorate.deployments.errors import MemberLoadError, SpecError
from quorate.deployments.spec.files import save_spec
from tests.deployments.support.boosters import LIBRARIES, estimator
from tests.deployments.support.patients import PLAIN, answers, near, patients, predictor_of, served, spec_of

# Advice of MLflow on models that are saved here as users save them.
pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:(?s).*contains integer column:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*input example was not provided:UserWarning"),
]
TENSORS = {name: {"datatype": "FP64", "shape": []} for name in PLAIN[:2]} | {
    "points": {"datatype": "INT64", "shape": []}
}


def doubled(self, context, model_input: pd.DataFrame, params=None):
    """A model of one's own: a method that takes a frame."""
    return 2 * model_input[["points"]].to_numpy() + model_input[["mean radius"]].to_numpy()


@pytest.fixture(scope="module")
def mlflow():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.catboost
        import mlflow.lightgbm
        import mlflow.pyfunc
        import mlflow.pytorch
        import mlflow.sklearn
        import mlflow.xgboost

        yield mlflow


@pytest.fixture(scope="module")
def table():
    frame, labels = patients()
    return frame[["mean radius", "area error", "points"]], labels


def signature(frame):
    from mlflow.models import infer_signature

    return infer_signature(frame)


def spec(folder="m", names=("benign", "malignant"), **member):
    return spec_of(f"mlflow:{folder}", names, list(TENSORS)[::-1], TENSORS, **member)


@pytest.mark.parametrize("library", LIBRARIES)
def test_boosters_are_read_by_their_own_format(mlflow, table, tmp_path, library):
    frame, labels = table
    target = labels if library == "catboost" else (labels == "malignant").astype(int)
    model = estimator(library, "Classifier").fit(frame, target)
    saved = model.booster_ if library == "lightgbm" else model
    getattr(mlflow, library).save_model(saved, tmp_path / "m", signature=signature(frame), pip_requirements=[library])
    near(answers(spec(), tmp_path, served(frame)), model.predict_proba(frame))


def test_a_pipeline_is_read_by_skops_and_from_a_pickle_only_where_that_is_allowed(mlflow, table, tmp_path, caplog):
    frame, labels = table
    model = make_pipeline(SimpleImputer(), LogisticRegression()).fit(frame.to_numpy(), labels)
    expected = model.predict_proba(frame.to_numpy())
    for kind in ("skops", "cloudpickle"):
        options = {"serialization_format": kind, "pip_requirements": ["scikit-learn"]}
        trusted = {"skops_trusted_types": ["numpy.dtype"]} if kind == "skops" else {}
        mlflow.sklearn.save_model(model, tmp_path / kind, signature=signature(frame), **options, **trusted)
    # Trained without names: those of the signature say which input is which column.
    near(answers(spec("skops"), tmp_path, served(frame)), expected)
    with pytest.raises(MemberLoadError, match=r"its sklearn flavour is a pickle, .*; save it .* {allow_pickle: true}"):
        predictor_of(spec("cloudpickle"), tmp_path)
    near(answers(spec("cloudpickle", config={"allow_pickle": True}), tmp_path, served(frame)), expected)
    assert "members.m: " in caplog.text
    assert "is read from a pickle" in caplog.text


def test_a_function_of_ones_own_is_called_with_a_frame_of_the_signatures_types(mlflow, table, tmp_path):
    frame, _ = table

    own = type("Own", (mlflow.pyfunc.PythonModel,), {"predict": doubled})()
    mlflow.pyfunc.save_model(tmp_path / "m", python_model=own, signature=signature(frame), pip_requirements=["mlflow"])
    with pytest.raises(MemberLoadError, match=r"its python_function flavour is a pickle"):
        predictor_of(spec(names=None, output="values"), tmp_path)
    found = answers(spec(names=None, output="values", config={"allow_pickle": True}), tmp_path, served(frame))
    expected = 2 * frame["points"] + frame["mean radius"]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)


def test_a_network_is_called_with_tensors(mlflow, tmp_path):
    network, rows = torch.nn.Linear(3, 2), np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    options = {"serialization_format": "pickle", "pip_requirements": ["torch"]}
    mlflow.pytorch.save_model(network, tmp_path / "m", **options)
    row = {"row": {"datatype": "FP32", "shape": [3]}}
    logits = spec_of("mlflow:m", ("a", "b"), ["row"], row, output="logits", config={"allow_pickle": True})
    expected = network(torch.from_numpy(rows)).softmax(dim=1).detach().numpy()
    near(answers(logits, tmp_path, {"row": rows}), expected)


def test_the_signatures_names_and_types_are_checked(mlflow, table, tmp_path):
    frame, labels = table
    model = make_pipeline(SimpleImputer(), LogisticRegression()).fit(frame, labels)
    options = {"serialization_format": "skops", "skops_trusted_types": ["numpy.dtype"], "pip_requirements": ["x"]}
    mlflow.sklearn.save_model(model, tmp_path / "m", signature=signature(frame), **options)
    fraction = {**TENSORS, "points": {"datatype": "FP32", "shape": []}}
    with pytest.raises(MemberLoadError, match=r"input 'points' is a fraction, and the signature says long"):
        predictor_of(spec_of("mlflow:m", inputs=list(fraction), tensors=fraction), tmp_path)
    text = {**TENSORS, "mean_radius": {"datatype": "BYTES", "shape": []}}
    with pytest.raises(MemberLoadError, match=r"input 'mean radius' is text, and the signature says double"):
        predictor_of(spec_of("mlflow:m", inputs=list(text), tensors=text), tmp_path)
    few = {name: TENSORS[name] for name in PLAIN[:2]}
    with pytest.raises(MemberLoadError, match=r"the model reads points, which are not among the inputs"):
        predictor_of(spec_of("mlflow:m", inputs=list(few), tensors=few), tmp_path)


def test_a_folder_that_is_none_of_mlflow_or_reaches_outside_is_refused(tmp_path):
    save_spec(spec("gone"), tmp_path / "spec.yaml")
    with pytest.raises(SpecError, match="there is no file"):
        load_spec(tmp_path / "spec.yaml")
    (tmp_path / "m").mkdir()
    with pytest.raises(MemberLoadError, match=r"m has no MLmodel that can be read: FileNotFoundError"):
        predictor_of(spec(), tmp_path)
    (tmp_path / "m" / "MLmodel").write_text("flavors: {xgboost: {data: ../../x.ubj}}")
    with pytest.raises(MemberLoadError, match=r"xgboost flavour names ../../x.ubj, outside of it"):
        predictor_of(spec(), tmp_path)
    (tmp_path / "m" / "MLmodel").write_text("flavors: {xgboost: {data: m.ubj, xgb_version: 1.0}}")
    (tmp_path / "m" / "m.ubj").write_text("junk")
    with pytest.raises(MemberLoadError, match=r"m.ubj is no model of XGBoost: .*saved with xgboost 1.0, and here is"):
        predictor_of(spec(), tmp_path)
