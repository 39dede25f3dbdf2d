import numpy as np
from sklearn.model_selection import StratifiedKFold

from quorate.tuning import OutOfFold, Training
from quorate.tuning.predictions.out_of_fold import predict_fold, predict_out_of_fold


def test_folds_trained_on_a_cluster_are_those_of_one_process(cluster, tiny):
    how = OutOfFold(folds=3, training=Training(epochs=2))
    rows, job = tiny.splits.train.rows(slice(0, 300)), tiny.spec.job("middle")
    found = predict_out_of_fold(job, rows, how)
    assert np.isfinite(found).all()
    folds = StratifiedKFold(3, shuffle=True, random_state=0).split(np.zeros(300), rows.labels)
    for seen, held_out in folds:
        assert not set(seen) & set(held_out)
        np.testing.assert_allclose(found[held_out], predict_fold(job, rows, seen, held_out, how), atol=1e-4)
