"""The model, with the mixin of django-prometheus if that is installed."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import models


def _base() -> Any:
    if not apps.is_installed("django_prometheus"):
        return type("NoMixin", (), {})
    from django_prometheus.models import ExportModelOperationsMixin

    return ExportModelOperationsMixin("order")


class Order(_base(), models.Model):  # type: ignore[misc]
    """An order."""

    name = models.CharField(max_length=20)

    class Meta:
        app_label = "orders"
