"""Measure Django projects with Prometheus: ``INSTALLED_APPS += ["django_prom"]`` and one line in ``urls``.

``set_route`` is imported when it is first used, so that the import of this package alone does not import
prometheus_client.
"""

from typing import TYPE_CHECKING, Any

from web_prom.metrics.routes import exclude

if TYPE_CHECKING:
    from django_prom.explicit_route import set_route

__all__ = ["exclude", "set_route"]


def __getattr__(name: str) -> Any:
    if name == "set_route":
        from django_prom.explicit_route import set_route

        return set_route
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
