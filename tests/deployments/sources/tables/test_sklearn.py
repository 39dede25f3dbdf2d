"""Scikit-learn's pipelines by skops, compared with their own prediction."""

import warnings

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Perceptron, Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from quorate.deployments.errors import MemberLoadError
from quorate.deployments.spec.model_files.example_content import can_be_made
from quorate.deployments.wire.datatypes import bytes_array
from tests.deployments.support.patients import PLAIN, answers, near, patients, predictor_of, served, spec_of

TREES = {"trusted": ["sklearn.tree._tree.Tree"]}
ROW = {"row": {"datatype": "FP64", "shape": [4]}}
TEXT = {"text": {"datatype": "BYTES", "shape": []}}


def by_column():
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    columns = make_column_transformer((numbers, ["mean radius", "area error", "points"]), (words, ["size"]))
    return make_pipeline(columns, LogisticRegression())


def test_a_pipeline_reads_a_frame_of_the_members_inputs_in_any_order(tmp_path):
    frame, labels = patients()
    model = by_column().fit(frame, labels)
    skops.io.dump(model, tmp_path / "m.skops")
    expected = model.predict_proba(frame)
    for inputs in (PLAIN, PLAIN[::-1]):
        near(
            answers(spec_of("m.skops", inputs=inputs), tmp_path, served(frame)),
            expected,
        )
    near(
        answers(spec_of("m.skops", ("malignant", "other", "benign")), tmp_path, served(frame)),
        np.stack([expected[:, 1], 0 * expected[:, 0], expected[:, 0]], axis=1),
    )
    tensors = {name: {"datatype": "FP64", "shape": []} for name in PLAIN[:2]}
    with pytest.raises(
        MemberLoadError, match=r"reads size, points, which .*; write inputs: \[mean_radius, area_error, s"
    ):
        predictor_of(spec_of("m.skops", inputs=tensors, tensors=tensors), tmp_path)


def test_a_strict_encoder_is_warmed_up_with_a_category_that_it_knows(tmp_path):
    frame, labels = patients()
    frame = frame[["size", "points"]].dropna()
    model = make_pipeline(make_column_transformer((OneHotEncoder(), ["size"])), LogisticRegression())
    model.fit(frame, labels[frame.index])
    skops.io.dump(model, tmp_path / "m.skops")
    tensors = {"size": {"datatype": "BYTES", "shape": []}, "points": {"datatype": "INT64", "shape": []}}
    spec = spec_of("m.skops", inputs=tensors, tensors=tensors)
    near(answers(spec, tmp_path, served(frame)), model.predict_proba(frame))
    assert not can_be_made(spec)


def test_categories_of_a_frame_are_those_that_boosting_was_trained_on(tmp_path):
    frame, labels = patients()
    model = HistGradientBoostingClassifier(max_iter=5).fit(frame.assign(size=frame["size"].astype("category")), labels)
    skops.io.dump(model, tmp_path / "m.skops")
    spec = spec_of("m.skops", config={"trusted": skops.io.get_untrusted_types(file=tmp_path / "m.skops")})
    expected = model.predict_proba(frame.assign(size=frame["size"].astype("category")))
    near(answers(spec, tmp_path, served(frame)), expected)


def test_documents_are_text_and_the_empty_text_is_one(tmp_path):
    texts = ["win money now", "see you at lunch", "", "free money", "lunch tomorrow?"] * 3
    labels = [2, 1, 1, 2, 1] * 3
    rows = bytes_array([text.encode() for text in texts])
    alone = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, labels)
    column = make_pipeline(make_column_transformer((TfidfVectorizer(), "text")), LogisticRegression())
    column.fit(pd.DataFrame({"text": texts}), labels)
    for model in (alone, column):
        skops.io.dump(model, tmp_path / "m.skops")
        spec = spec_of("m.skops", ("1", "2"), ["text"], TEXT)
        expected = model.predict_proba(texts if model is alone else pd.DataFrame({"text": texts}))
        near(answers(spec, tmp_path, {"text": rows}), expected)
    with pytest.raises(MemberLoadError, match=r"the model's classes are 1, 2, and the ensemble's ham, spam; give the"):
        predictor_of(spec_of("m.skops", ("ham", "spam"), ["text"], TEXT), tmp_path)
    named = spec_of("m.skops", ("spam", "ham"), ["text"], TEXT, classes=["ham", "spam"])
    near(answers(named, tmp_path, {"text": rows}), expected[:, ::-1])


@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_a_matrix_goes_to_what_was_trained_without_names(tmp_path, output):
    rows, labels = load_iris(return_X_y=True)
    model = RandomForestClassifier(10, n_jobs=-1, random_state=0).fit(rows, labels.astype(float))
    skops.io.dump(model, tmp_path / "m.skops")
    spec = spec_of("m.skops", ("2", "0", "1"), ["row"], ROW, output=output, config=TREES)
    near(answers(spec, tmp_path, {"row": rows}), model.predict_proba(rows)[:, [2, 0, 1]])
    assert predictor_of(spec, tmp_path).model.classes == ("0", "1", "2")


def test_a_regressor_gives_values_and_a_transformer_features(tmp_path):
    rows, target = load_diabetes(return_X_y=True)
    tensors = {"row": {"datatype": "FP64", "shape": [10]}}
    model = Ridge(0.1).fit(rows, np.stack([target, -target], axis=1))
    skops.io.dump(model, tmp_path / "m.skops")
    skops.io.dump(StandardScaler().fit(rows), tmp_path / "scaler.skops")
    values = answers(spec_of("m.skops", None, ["row"], tensors, output="values"), tmp_path, {"row": rows})
    np.testing.assert_allclose(values, model.predict(rows), rtol=1e-6)
    with pytest.raises(MemberLoadError, match=r"predicts values \(Ridge\), not classes; write output: values"):
        predictor_of(spec_of("m.skops", ("a", "b"), ["row"], tensors), tmp_path)
    predictor = predictor_of(spec_of("scaler.skops", None, ["row"], tensors, output="values"), tmp_path)
    near(predictor.model.predict({"row": rows}), StandardScaler().fit_transform(rows))


def test_a_decision_function_is_taken_only_where_it_is_asked_for(tmp_path):
    rows, labels = load_iris(return_X_y=True)
    model = Perceptron().fit(rows, labels)
    skops.io.dump(model, tmp_path / "m.skops")
    with pytest.raises(MemberLoadError, match="Perceptron gives no probabilities; write output: logits"):
        predictor_of(spec_of("m.skops", ("0", "1", "2"), ["row"], ROW), tmp_path)
    predictor = predictor_of(spec_of("m.skops", ("0", "1", "2"), ["row"], ROW, output="logits"), tmp_path)
    near(predictor.model.predict({"row": rows}), model.decision_function(rows))


@pytest.mark.parametrize("kind", ["list", "matrix"])
def test_several_labels_of_a_row_are_a_probability_each(tmp_path, kind):
    rows, labels = load_iris(return_X_y=True)
    several = np.stack([labels > 0, labels == 1], axis=1).astype(int)
    own = MultiOutputClassifier(LogisticRegression()) if kind == "list" else MLPClassifier((4,), max_iter=20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        model = own.fit(rows, several)
    skops.io.dump(model, tmp_path / "m.skops")
    trusted = {"trusted": skops.io.get_untrusted_types(file=tmp_path / "m.skops")}
    spec = spec_of("m.skops", ("late", "middle"), ["row"], ROW, config=trusted)
    found = answers(spec, tmp_path, {"row": rows})
    expected = model.predict_proba(rows)
    expected = np.stack([each[:, 1] for each in expected], axis=1) if kind == "list" else expected
    near(found, expected)


def test_types_that_skops_does_not_trust_are_named_and_load_where_the_operator_lists_them(tmp_path):
    rows, labels = load_iris(return_X_y=True)
    model = RandomForestClassifier(3, random_state=0).fit(rows, labels)
    skops.io.dump(model, tmp_path / "m.skops")
    untrusted = skops.io.get_untrusted_types(file=tmp_path / "m.skops")
    with pytest.raises(MemberLoadError) as error:
        predictor_of(spec_of("m.skops", ("0", "1", "2"), ["row"], ROW), tmp_path)
    fix = f"if you trust who made it, write config: {{trusted: [{', '.join(untrusted)}]}}"
    assert (
        str(error.value) == f"members.m: m.skops holds types that skops does not trust: {', '.join(untrusted)}; {fix}"
    )
    spec = spec_of("m.skops", ("0", "1", "2"), ["row"], ROW, config={"trusted": untrusted})
    near(answers(spec, tmp_path, {"row": rows}), model.predict_proba(rows))
    (tmp_path / "m.skops").write_bytes(b"junk")
    with pytest.raises(MemberLoadError, match=r"m.skops cannot be loaded: .*; save it with skops.io.dump"):
        predictor_of(spec, tmp_path)
