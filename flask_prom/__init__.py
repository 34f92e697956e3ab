"""The Flask extension: measures Flask applications with Prometheus."""

from flask_prom.extension import FlaskProm

__all__ = ["FlaskProm"]
