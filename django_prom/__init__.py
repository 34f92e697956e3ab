"""Measure Django projects with Prometheus: ``INSTALLED_APPS += ["django_prom"]`` and one line in ``urls``."""

from web_prom.exclusion import exclude

__all__ = ["exclude"]
