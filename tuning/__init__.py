"""Tuning: train members, keep their predictions, solve the fusion's weights, search structure.

Names load on first use, so that the command line starts without importing torch or Ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Bagged": "bagging",
    "Candidate": "compression",
    "Compression": "compression",
    "DecisionGain": "deciding",
    "DecisionResult": "deciding",
    "Decisions": "decisions",
    "Distillation": "distillation",
    "Epoch": "training",
    "Labelled": "datasets",
    "Judgement": "judging",
    "Measured": "latency",
    "OutOfFold": "out_of_fold",
    "Pattern": "patterns",
    "PredictionShards": "sharding",
    "PredictionStore": "store",
    "SearchSpace": "search_space",
    "Splits": "datasets",
    "SweepResult": "sweeping",
    "TuneResult": "tune",
    "Trained": "training",
    "Training": "training",
    "FillReport": "store",
    "GreedyPath": "greedy",
    "Weights": "weights",
    "Promotion": "promotion",
    "bagged_weights": "bagging",
    "build": "architectures",
    "compress": "compression",
    "decision_gain": "deciding",
    "decision_weights": "decisions",
    "digits": "datasets",
    "distil": "distillation",
    "evolved_weights": "evolution",
    "greedy_path": "greedy",
    "greedy_weights": "greedy",
    "idx_images": "datasets",
    "load_measured": "latency",
    "pattern_weights": "patterns",
    "pick_runner": "ray_prediction",
    "promote": "promotion",
    "read_table": "datasets",
    "resume_sweep": "sweeping",
    "run_in_process": "prediction",
    "run_on_ray": "ray_prediction",
    "save_weights": "training",
    "score_weights": "weights",
    "simplex_weights": "simplex",
    "split": "datasets",
    "sweep": "sweeping",
    "train": "training",
    "tune_decisions": "deciding",
    "tune_weights": "tune",
    "worthwhile_patterns": "patterns",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
