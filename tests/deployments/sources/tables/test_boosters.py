"""XGBoost, LightGBM and CatBoost by their own formats, compared with each library's own prediction."""

import catboost
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.datasets import load_diabetes, load_iris

from quorate.deployments.errors import MemberLoadError
from tests.deployments.support.boosters import LIBRARIES, SUFFIX, estimator, save, save_models
from tests.deployments.support.patients import PLAIN, answers, near, patients, predictor_of, served, spec_of


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of models of the patients, and what each library gives itself."""
    folder = tmp_path_factory.mktemp("boosters")
    return folder, save_models(folder)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_columns_with_text_and_missing_values_are_read_by_name_in_any_order(saved, library, output):
    folder, (name, expected) = saved[0], saved[1][library]
    spec = spec_of(name, inputs=PLAIN[::-1], output=output)
    found = answers(spec, folder, served(patients()[0]))
    near(found, expected)
    assert 0.1 < found[:, 1].mean() < 0.9


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_model_of_fewer_columns_reads_its_own_out_of_all(saved, library):
    folder, (name, expected) = saved[0], saved[1][library]
    more = {**{n: {"datatype": "FP64", "shape": []} for n in ("age", *PLAIN, "weight")}, "size": "BYTES"}
    spec = spec_of(name, inputs=["all"], tensors=more)
    given = served(patients()[0])
    rows = len(given["size"])
    near(answers(spec, folder, {**given, "age": np.ones(rows), "weight": np.zeros(rows)}), expected)


@pytest.mark.parametrize("library", LIBRARIES)
def test_columns_that_the_model_does_not_have_are_named_at_load(saved, library):
    folder, (name, _) = saved[0], saved[1][library]
    tensors = {name: {"datatype": "FP32", "shape": []} for name in ("mean_radius", "size", "points", "age")}
    with pytest.raises(MemberLoadError) as error:
        predictor_of(spec_of(name, inputs=list(tensors), tensors=tensors), folder)
    reads, knows = "the model reads area_error, which are not among the inputs", "it does not know age"
    assert str(error.value) == f"members.m: {reads}; {knows}; write inputs: [{', '.join(PLAIN)}], in any order"


def test_a_category_that_was_not_trained_on_is_what_the_library_makes_of_it(saved):
    """Missing to LightGBM, a category without statistics to CatBoost, an error of its row to XGBoost."""
    folder, models = saved
    frame = patients()[0].iloc[1:4].assign(size=["small", "gigantic", "small"])
    inputs = served(frame)
    found = answers(spec_of(models["lightgbm"][0]), folder, inputs)
    missing = answers(spec_of(models["lightgbm"][0]), folder, served(frame.replace({"size": {"gigantic": np.nan}})))
    np.testing.assert_array_equal(found, missing)
    own = catboost.CatBoostClassifier().load_model(str(folder / models["catboost"][0]))
    near(answers(spec_of(models["catboost"][0]), folder, inputs), own.predict_proba(frame))
    predictor = predictor_of(spec_of(models["xgboost"][0]), folder)
    _, states = predictor.run(inputs, probabilities=True)
    np.testing.assert_array_equal(states != 0, [False, True, False])
    assert "input 'size' has 'gigantic', which is none of the model's categories" in predictor.last_error


@pytest.mark.parametrize("library", LIBRARIES)
def test_several_classes_of_a_matrix_are_numbered_or_take_the_names_of_the_spec(tmp_path, library):
    rows, labels = load_iris(return_X_y=True)
    rows = rows.astype(np.float32)
    model = estimator(library, "Classifier").fit(rows, labels)
    name = save(model, tmp_path / f"m{SUFFIX[library]}")
    tensors = {"row": {"datatype": "FP32", "shape": [4]}}
    expected = model.predict_proba(rows)
    for classes, columns in ((("2", "0", "1"), [2, 0, 1]), (("0", "1", "2"), [0, 1, 2])):
        spec = spec_of(name, classes, ["row"], tensors)
        near(answers(spec, tmp_path, {"row": rows}), expected[:, columns])
    own = ["setosa", "versicolor", "virginica"]
    spec = spec_of(name, own[::-1], ["row"], tensors, classes=own)
    near(answers(spec, tmp_path, {"row": rows}), expected[:, ::-1])
    with pytest.raises(MemberLoadError, match=r"the member's inputs have 3 columns a row, and the model reads 4"):
        predictor_of(spec_of(name, own, ["row"], {"row": {"datatype": "FP32", "shape": [3]}}, classes=own), tmp_path)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_regressor_gives_values_and_no_classes(tmp_path, library):
    data = load_diabetes()
    frame = load_diabetes(as_frame=True).data
    model = estimator(library, "Regressor").fit(frame, data.target)
    name = save(model, tmp_path / f"m{SUFFIX[library]}")
    tensors = {column: {"datatype": "FP64", "shape": [1]} for column in frame}
    inputs = {column: frame[column].to_numpy()[:, None] for column in frame}
    spec = spec_of(name, None, list(tensors), tensors, output="values")
    expected = model.predict(frame)
    np.testing.assert_allclose(answers(spec, tmp_path, inputs)[:, 0], expected, rtol=1e-6)
    with pytest.raises(MemberLoadError, match=r"the model predicts values \(.*\), not classes; write output: values"):
        predictor_of(spec_of(name, ["a", "b"], list(tensors), tensors), tmp_path)


@pytest.mark.parametrize(
    ("objective", "rescale"),
    [("binary:logitraw", True), ("multi:softmax", False), ("reg:logistic", False)],
)
def test_objectives_of_xgboost_that_give_margins_or_labels_give_probabilities(tmp_path, objective, rescale):
    rows, labels = load_iris(return_X_y=True)
    data = xgboost.DMatrix(rows, labels if objective == "multi:softmax" else labels > 0)
    many = {"num_class": 3} if objective == "multi:softmax" else {}
    booster = xgboost.train({"objective": objective, "nthread": 1, **many}, data, 5)
    booster.save_model(tmp_path / "m.json")
    classes = ("0", "1", "2") if many else ("0", "1")
    tensors = {"row": {"datatype": "FP64", "shape": [4]}}
    found = answers(spec_of("m.json", classes, ["row"], tensors), tmp_path, {"row": rows})
    if many:
        as_probabilities = {"objective": "multi:softprob", "nthread": 1, **many}
        near(found, xgboost.train(as_probabilities, data, 5).predict(data))
    else:
        margins = booster.predict(data, output_margin=True)
        near(found[:, 1], 1 / (1 + np.exp(-margins.astype(np.float64))))


def test_a_model_that_stopped_early_predicts_with_its_best_trees(tmp_path):
    rows, labels = load_iris(return_X_y=True)
    model = xgboost.XGBClassifier(n_estimators=200, early_stopping_rounds=2, learning_rate=0.9, n_jobs=1)
    model.fit(rows[::2], labels[::2], eval_set=[(rows[1::2], labels[1::2])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    model.save_model(tmp_path / "m.json")
    spec = spec_of("m.json", ("0", "1", "2"), ["row"], {"row": {"datatype": "FP64", "shape": [4]}})
    near(answers(spec, tmp_path, {"row": rows}), model.predict_proba(rows))


def test_lightgbms_ordered_categories_are_text_too(tmp_path):
    """LightGBM takes them for numbers, and keeps their values without saying of which feature they are."""
    frame, labels = patients()
    sizes = pd.CategoricalDtype(["small", "middle", "large", "huge"], ordered=True)
    rows = frame.assign(size=frame["size"].astype(sizes))
    model = estimator("lightgbm", "Classifier").fit(rows, labels == "malignant")
    save(model, tmp_path / "m.txt")
    near(answers(spec_of("m.txt"), tmp_path, served(frame)), model.predict_proba(rows))
    numbers = {name: {"datatype": "FP64", "shape": []} for name in PLAIN}
    with pytest.raises(
        MemberLoadError, match="0 columns are text or categories, and the model was trained on 1 of these"
    ):
        predictor_of(spec_of("m.txt", tensors=numbers), tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("m.json", '{"a": [1]}', "m.json is no model of XGBoost: "),
        ("m.ubj", "junk", "m.ubj is no model of XGBoost: "),
        ("m.txt", "cat\ndog\n", "m.txt is no model of LightGBM; save it with Booster.save_model"),
        ("m.txt", "tree\nversion=v4\nnum_class=1\n", "m.txt is no model of LightGBM: "),
        ("m.cbm", "junk", "m.cbm is no model of CatBoost: "),
    ],
)
def test_a_file_that_is_no_such_model_is_refused_in_words(tmp_path, file, content, sentence):
    (tmp_path / file).write_text(content)
    with pytest.raises(MemberLoadError) as error:
        predictor_of(spec_of(file), tmp_path)
    assert f"members.m: {sentence}" in str(error.value)
    assert "\n" not in str(error.value)


def test_catboost_reads_missing_text_as_what_it_was_in_training(tmp_path):
    frame, labels = patients()
    rows = frame.assign(size=frame["size"].fillna("unknown"))
    model = estimator("catboost", "Classifier").fit(rows, labels, cat_features=["size"])
    save(model, tmp_path / "m.cbm")
    found = answers(spec_of("m.cbm", config={"missing": "unknown"}), tmp_path, served(frame))
    near(found, model.predict_proba(rows))
    with pytest.raises(MemberLoadError, match=r"config.mising is no setting of it; it takes missing"):
        predictor_of(spec_of("m.cbm", config={"mising": "unknown"}), tmp_path)
