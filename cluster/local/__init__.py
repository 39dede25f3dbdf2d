"""A Ray cluster of our own on this machine."""
