import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from quorate.tuning import Distillation, Training, distil, run_in_process, train
from quorate.tuning.errors import PredictionError, TuningError
from quorate.tuning.training.distillation import distillation_loss

STUDENT = {"family": "mlp", "width": 8, "depth": 1}


def test_the_loss_is_the_papers():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(6, 4)), random.integers(0, 4, 6)
    teacher = random.dirichlet(np.ones(4), 6)
    how = Distillation(temperature=3.0, alpha=0.25)
    index = torch.tensor([4, 1])
    found = distillation_loss(teacher, labels, how)(torch.from_numpy(logits[index]).float(), index)
    soft = softmax(np.log(teacher) / 3.0, axis=1)[index]
    cooled = log_softmax(logits[index] / 3.0, axis=1)
    imitation = 9.0 * (soft * (np.log(soft) - cooled)).sum(axis=1).mean()
    hard = -log_softmax(logits[index], axis=1)[[0, 1], labels[index]].mean()
    assert found.item() == pytest.approx(0.25 * hard + 0.75 * imitation, rel=1e-5)


@pytest.mark.long
def test_a_student_learns_the_teachers_mind_where_labels_say_nothing(tiny):
    """With alpha 0 and labels that are all wrong the student still ends where the ensemble is."""
    train_rows, validation, test = tiny.splits.train, tiny.splits.validation, tiny.splits.test
    teacher = run_in_process(tiny.spec.job("strong"), tiny.folder, train_rows.inputs)
    wrong = type(train_rows)(train_rows.inputs, (train_rows.labels + 1) % 10, train_rows.classes)
    how = Distillation(alpha=0.0, training=Training(epochs=12))
    student = distil({**STUDENT, "width": 32}, wrong, teacher, validation, how).model
    with torch.inference_mode():
        said = student(torch.from_numpy(test.inputs["image"])).argmax(1).numpy()
    assert (said == test.labels).mean() > 0.75  # the labels it was given are right in none


def test_alpha_one_is_training_without_a_teacher(tiny):
    train_rows, validation = tiny.splits.train, tiny.splits.validation
    training = Training(epochs=1)
    teacher = np.full((len(train_rows), 10), 0.1)
    alone = train(STUDENT, train_rows, validation, training)
    taught = distil(STUDENT, train_rows, teacher, validation, Distillation(alpha=1.0, training=training))
    for one, other in zip(alone.model.parameters(), taught.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_teachers_that_do_not_fit_are_refused(tiny):
    rows, validation = tiny.splits.train, tiny.splits.validation
    for teacher in (np.full((3, 10), 0.1), np.full((len(rows), 10), np.nan), np.full((len(rows), 10), -1.0)):
        with pytest.raises(PredictionError, match="one row per training row"):
            distil(STUDENT, rows, teacher, validation)
    with pytest.raises(TuningError, match="temperature above 0"):
        Distillation(temperature=0.0)
    with pytest.raises(TuningError, match="temperature above 0"):
        Distillation(alpha=1.5)
