"""Metric families, label values, and the recording of requests."""
