"""Traces, and whom a line of a log is about: contexts as W3C writes them, spans, and where they are sent to."""
