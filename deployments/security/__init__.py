"""Tokens, certificates and who may do what at a door."""
