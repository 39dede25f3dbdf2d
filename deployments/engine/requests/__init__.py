"""Requests in the engine: waiting, under way, and what became of them."""
