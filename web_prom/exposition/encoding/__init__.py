"""Encoding of metric families in the Prometheus text formats."""
