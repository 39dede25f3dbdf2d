"""Requests in, batches out to the members, fused answers back: one event loop, no wire and no Ray."""
