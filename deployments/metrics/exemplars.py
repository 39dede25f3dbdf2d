"""Which trace a request belongs to, so that a histogram can show one request of each of its buckets."""

from __future__ import annotations

from contextvars import ContextVar

# Of the request that the task under way answers; empty where its trace is not kept anywhere.
TRACE_ID: ContextVar[str] = ContextVar("trace_id", default="")
