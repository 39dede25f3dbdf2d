"""Small models of XGBoost, LightGBM and CatBoost, on disk in each library's own format."""

import catboost
import lightgbm
import xgboost

from tests.deployments.support.patients import patients

SUFFIX = {"xgboost": ".ubj", "lightgbm": ".txt", "catboost": ".cbm"}
LIBRARIES = sorted(SUFFIX)


def estimator(library, kind, **settings):
    """A library's ``Classifier`` or ``Regressor``."""
    if library == "catboost":
        quiet = {"verbose": False, "allow_writing_files": False, "thread_count": 1, "iterations": 8, "random_seed": 0}
        return getattr(catboost, f"CatBoost{kind}")(**quiet, **settings)
    if library == "lightgbm":
        return getattr(lightgbm, f"LGBM{kind}")(n_estimators=8, n_jobs=1, verbose=-1, random_state=0, **settings)
    return getattr(xgboost, f"XGB{kind}")(n_estimators=8, n_jobs=1, enable_categorical=True, **settings)


def save(model, path):
    """Write a model; gives the file's name."""
    (model.booster_ if path.suffix == ".txt" else model).save_model(path)
    return path.name


def save_models(folder):
    """By library the name of a model of the patients, and the probability of benign, malignant that it gives itself."""
    frame, labels = patients()
    found = {}
    for library in LIBRARIES:
        rows, fit = _trained_on(library, frame), {"cat_features": ["size"]} if library == "catboost" else {}
        target = labels if library == "catboost" else (labels == "malignant").astype(int)
        model = estimator(library, "Classifier").fit(rows, target, **fit)
        found[library] = (save(model, folder / f"m{SUFFIX[library]}"), model.predict_proba(rows))
    return found


def _trained_on(library, frame):
    """The frame as the library wants categories: text filled for CatBoost, pandas categories for the others."""
    if library == "catboost":
        return frame.assign(size=frame["size"].fillna(""))
    return frame.assign(size=frame["size"].astype("category"))
