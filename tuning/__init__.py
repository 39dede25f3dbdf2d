"""Tuning: train members, keep their predictions, solve the fusion's weights, search structure.

Names load on first use, so that the command line starts without importing torch or Ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Bagged": "solvers.bagging",
    "Candidate": "workflows.compress",
    "Compression": "workflows.compress",
    "DecisionGain": "workflows.tune_decisions",
    "DecisionResult": "workflows.tune_decisions",
    "Decisions": "solvers.decisions",
    "Distillation": "training.distillation",
    "Epoch": "training.training_run",
    "Labelled": "data.labelled",
    "Judgement": "evaluation.verdict",
    "Measured": "latency.curves",
    "OutOfFold": "predictions.out_of_fold",
    "Pattern": "solvers.patterns",
    "PredictionShards": "solvers.sharding",
    "PredictionStore": "predictions.store",
    "SearchSpace": "search.space",
    "Splits": "data.labelled",
    "SweepResult": "search.result",
    "TuneResult": "workflows.tune_weights",
    "Trained": "training.training_run",
    "Training": "training.training_run",
    "FillReport": "predictions.store",
    "GreedyPath": "solvers.greedy",
    "Weights": "solvers.weights",
    "Promotion": "workflows.promote",
    "bagged_weights": "solvers.bagging",
    "build": "architectures.networks",
    "compress": "workflows.compress",
    "decision_gain": "workflows.tune_decisions",
    "decision_weights": "solvers.decisions",
    "digits": "data.digits",
    "distil": "training.distillation",
    "evolved_weights": "solvers.evolution",
    "greedy_path": "solvers.greedy",
    "greedy_weights": "solvers.greedy",
    "idx_images": "data.idx_files",
    "load_measured": "latency.curves",
    "pattern_weights": "solvers.patterns",
    "pick_runner": "predictions.run_on_ray",
    "promote": "workflows.promote",
    "read_table": "data.tables",
    "resume_sweep": "search.sweep",
    "run_in_process": "predictions.run_member",
    "run_on_ray": "predictions.run_on_ray",
    "save_weights": "training.checkpoint",
    "score_weights": "solvers.weights",
    "simplex_weights": "solvers.simplex",
    "split": "data.labelled",
    "sweep": "search.sweep",
    "train": "training.train",
    "tune_decisions": "workflows.tune_decisions",
    "tune_weights": "workflows.tune_weights",
    "worthwhile_patterns": "solvers.patterns",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
