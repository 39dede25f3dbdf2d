"""Weights that are learned from labels as they come, late and in any order, with members that are missing at times.

Pure mathematics: columns of probabilities in, weights, regret and bounds out. Entry points: ``OnlineMixture`` under
log-loss, ``AdaHedge`` under any other, ``Publisher`` for when weights that were learned go live, and
``learn_from_record``, which puts a record through all of them.
"""
