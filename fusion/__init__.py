"""Fusion rules, pure torch: what turns many members' outputs into one.

Names load on first use, so that checking a spec does not pay for importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "BayesianModelAveraging": "bayesian",
    "BayesianModelCombination": "bayesian",
    "BilinearFusion": "bilinear_fusion",
    "Borda": "ranking",
    "Calibration": "calibration",
    "Cascade": "cascade",
    "Concat": "concat",
    "Decision": "decision",
    "DempsterShafer": "dempster_shafer",
    "FeatureAttention": "feature_attention",
    "FeatureMean": "feature_mean",
    "FeatureRule": "features",
    "Fused": "base",
    "Gate": "gate",
    "GatedFusion": "gated_fusion",
    "Generated": "generation",
    "GeometricMean": "geometric_mean",
    "GreedySoup": "soups",
    "InverseVariance": "regression",
    "MEASURES": "measures",
    "MajorityVote": "voting",
    "Maximum": "order_statistics",
    "Mean": "linear_pool",
    "Median": "order_statistics",
    "Minimum": "order_statistics",
    "MixtureMoments": "regression",
    "OutputAttention": "output_attention",
    "Product": "product",
    "QuantileAverage": "regression",
    "QuorateError": "errors",
    "RULES": "catalogue",
    "ReciprocalRank": "ranking",
    "RegressionMedian": "regression",
    "Route": "gate",
    "Rule": "base",
    "SoftVote": "voting",
    "Stacking": "stacking",
    "Threshold": "threshold",
    "Training": "fitting",
    "TrimmedMean": "order_statistics",
    "WeightedMean": "linear_pool",
    "WeightedVote": "voting",
    "check_members": "checkpoints",
    "check_vocabularies": "generation",
    "dare": "task_vectors",
    "drop_members": "fitting",
    "fit_calibration": "calibration",
    "fit_cascade": "cascade",
    "fit_features": "feature_fitting",
    "fit_gate": "gate",
    "fit_output_attention": "output_attention",
    "fit_rejection": "decision",
    "fit_stacking": "stacking",
    "fit_thresholds": "decision",
    "fuse_next_token": "generation",
    "fuse_tokens": "token_fusion",
    "generate": "generation",
    "greedy_soup": "soups",
    "mcnemar": "significance",
    "paired_bootstrap": "significance",
    "reestimate_batchnorm": "batchnorm",
    "shapley_values": "shapley",
    "slerp": "interpolation",
    "task_arithmetic": "task_vectors",
    "ties": "task_vectors",
    "uniform_soup": "soups",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
