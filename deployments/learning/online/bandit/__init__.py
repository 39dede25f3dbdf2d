"""Whom to ask, learned from labels as they come: a bandit's models, what another choice would have earned, a floor.

Entry points: ``rows.told_by`` reads what recorded rows tell of each set of members, ``BanditLearner`` learns from it,
and says when what it has learned is to go live.
"""
