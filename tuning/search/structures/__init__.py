"""Structures over the candidates: how one is proposed, evaluated on stored predictions, and its latency checked."""
