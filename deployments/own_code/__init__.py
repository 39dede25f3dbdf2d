"""Quorate itself as what travels: to a job that an operator's machine has submitted, and to workers that lack it."""
