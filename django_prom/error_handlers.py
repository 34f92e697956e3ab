"""Exceptions that REST framework or django-ninja answers inside of a view."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import wraps
from types import ModuleType
from typing import Any

from django_prom.signals import add_exception
from web_prom.import_hook import when_imported
from web_prom.metrics.recording import RECORDING_KEY

logger = logging.getLogger("web_prom")


def watch_error_handlers() -> None:
    """Patch the error handlers of both packages, so that the exceptions that they answer are recorded.

    Such an exception does not leave the view, so Django does not see it. A package that is not imported is
    patched as soon as it is. Further calls change nothing. Never raises.
    """
    for module in _PATCHES:
        when_imported(module, _patch)


def _patch(module: ModuleType) -> None:
    cls, name, recorded = _PATCHES[module.__name__]
    try:
        handler = getattr(module, cls)
        method = getattr(handler, name)
        if not hasattr(method, "is_recorded"):
            patched = wraps(method)(recorded(method))
            patched.is_recorded = True  # type: ignore[attr-defined]
            setattr(handler, name, patched)
    except Exception:
        logger.warning("exceptions that %s answers are not counted", module.__name__, exc_info=True)


def _recorded_in_view(handle_exception: Callable[..., Any]) -> Callable[..., Any]:
    def handle(self: Any, exc: BaseException, *args: Any, **options: Any) -> Any:
        response = handle_exception(self, exc, *args, **options)
        _record(getattr(self, "request", None), exc)
        return response

    return handle


def _recorded_in_api(on_exception: Callable[..., Any]) -> Callable[..., Any]:
    def handle(self: Any, request: Any, exc: BaseException, *args: Any, **options: Any) -> Any:
        response = on_exception(self, request, exc, *args, **options)
        _record(request, exc)
        return response

    return handle


def _record(request: Any, error: BaseException) -> None:
    """Record an exception that was answered. One that the handler raises is recorded by Django's signal."""
    recording: Any = None
    try:
        recording = request.META.get(RECORDING_KEY)
        # django-prometheus counts only exceptions that leave the view.
        if recording is not None and not recording.recorder.naming.counts_handled_exceptions:
            add_exception(request, error)
    except Exception:
        if hasattr(recording, "recorder"):
            recording.recorder.record_internal_error("annotate")


_PATCHES: Mapping[str, tuple[str, str, Callable[[Any], Any]]] = {
    "rest_framework.views": ("APIView", "handle_exception", _recorded_in_view),
    "ninja.main": ("NinjaAPI", "on_exception", _recorded_in_api),
}
"""By module: the class, its method that answers an exception, and what makes the method that records it."""
