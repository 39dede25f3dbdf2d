"""Alternatives for tasks other than one class a row: values, quantiles, rankings, spans."""
