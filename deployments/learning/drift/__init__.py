"""Drift: whether members and answers are still what they were, and which member is not.

Each answer is a draw of some numbers (how far two members are from each other, how sure each is, what it loses by a
label). Their means are compared with a reference, by tests whose false alarms stay below a rate over all numbers and
all looks together. Entry points: ``DriftWatch`` in a server, ``drift_of_record`` for what was recorded,
``reference_of`` for rows that others know.
"""
