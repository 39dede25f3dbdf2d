"""The client in Python, bulk streams of Arrow, and the load test."""
