"""Grafana boards and Prometheus rules over what the doors count, as data."""
