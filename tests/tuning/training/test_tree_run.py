import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier

from quorate.tuning import Labelled
from quorate.tuning.architectures import trees
from quorate.tuning.training.tree_run import TreeRun, TreeTraining


def table(load, holes=0.0):
    rows, labels = load(return_X_y=True)
    rows = rows.astype(np.float32)
    rows[np.random.default_rng(0).random(rows.shape) < holes] = np.nan
    return Labelled({"row": rows}, labels.astype(np.int64), tuple(str(one) for one in np.unique(labels)))


def grown(data, how):
    run = TreeRun(data, data, how)
    while not run.finished:
        run.step()
    return run.result()


def probabilities(model, data):
    with torch.inference_mode():
        return model(torch.from_numpy(data.inputs["row"])).softmax(dim=1).numpy()


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_boosting_answers_what_scikit_learn_does(load, holes):
    data = table(load, holes)
    found = grown(data, TreeTraining("boosting", epochs=2, trees=5, leaves=7, rows_in_leaf=5))
    theirs = HistGradientBoostingClassifier(
        max_iter=5 * found.best.number, max_leaf_nodes=7, min_samples_leaf=5, early_stopping=False, random_state=0
    ).fit(data.inputs["row"], data.labels)
    np.testing.assert_allclose(probabilities(found.model, data), theirs.predict_proba(data.inputs["row"]), atol=1e-5)
    assert found.best.validation_accuracy == theirs.score(data.inputs["row"], data.labels)


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
def test_a_forest_answers_what_scikit_learn_does_with_a_floor(load):
    data = table(load)
    found = grown(data, TreeTraining("forest", epochs=2, trees=5, rows_in_leaf=2, features=0.5))
    theirs = ExtraTreesClassifier(
        5 * found.best.number, min_samples_leaf=2, max_features=0.5, random_state=0, warm_start=True
    ).fit(data.inputs["row"], data.labels)
    floored = theirs.predict_proba(data.inputs["row"]) + 1e-3
    expected = floored / floored.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(found.model, data), expected, atol=1e-5)


def test_a_checkpoint_of_trees_is_built_from_its_config():
    data = table(load_wine)
    found = grown(data, TreeTraining("boosting", epochs=1, trees=3))
    again = trees(**found.config)
    again.load_state_dict(found.model.state_dict())
    np.testing.assert_array_equal(probabilities(again, data), probabilities(found.model, data))


def test_trees_taken_up_again_are_the_same():
    data = table(load_wine)
    how = TreeTraining("boosting", epochs=3, trees=2)
    first = TreeRun(data, data, how)
    first.step()
    second = TreeRun(data, data, how)
    second.restore(*first.state())
    for run in (first, second):
        while not run.finished:
            run.step()
    assert first.history == second.history
    np.testing.assert_array_equal(probabilities(first.result().model, data), probabilities(second.result().model, data))


def test_a_class_without_training_rows_is_answered_with_next_to_nothing():
    data = table(load_breast_cancer)
    named = Labelled(data.inputs, 2 * data.labels, ("malignant", "unseen", "benign"))
    said = probabilities(grown(named, TreeTraining("boosting", epochs=1, trees=3)).model, data)
    assert said[:, 1].max() < 1e-6
    assert (said.argmax(axis=1) == named.labels).mean() > 0.9
