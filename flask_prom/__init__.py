"""Measure Flask applications with Prometheus: one line in the application."""

from flask_prom.extension import FlaskProm

__all__ = ["FlaskProm"]
