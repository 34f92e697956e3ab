"""The middleware that measures requests and answers scrapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.http import HttpRequest

from django_prom import conf, signals
from django_prom.extra_labels import compute_extra_labels
from django_prom.middleware_install import MIDDLEWARE
from django_prom.request_lifecycle import on_exception, on_request, on_response
from django_prom.routes import is_metrics_path
from django_prom.unmeasured import discard_scrape, isolated
from django_prom.views import answer_in_thread, exposition_response
from web_prom.errors import WebPromError

GetResponse = Callable[[HttpRequest], Any]


class PrometheusMiddleware:
    """Measure every request, and answer scrapes before any other middleware gets them.

    The app puts it first in ``MIDDLEWARE``. In a lower position it does not measure requests that a
    middleware above it answers. It serves synchronous and asynchronous handlers without a change of thread.
    It keeps no state of a request.

    Raises:
        ImproperlyConfigured: The settings are wrong. The server does not start, instead of running without
            metrics.
        MiddlewareNotUsed: PROM_ENABLED is off.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        try:
            instrumentation = conf.instrumentation()
        except WebPromError as error:
            raise ImproperlyConfigured(f"django_prom: {error}") from error
        if instrumentation is None:
            raise MiddlewareNotUsed("PROM_ENABLED is off")
        self._get_response = get_response
        # Only a middleware above this one can replace its response.
        self._is_first = bool(settings.MIDDLEWARE) and settings.MIDDLEWARE[0] == MIDDLEWARE
        if not self._is_first:
            signals.connect_request_finished()
        # A handler wraps each callable that it passes to a middleware. A test can call without a handler.
        self._has_handler = hasattr(get_response, "__wrapped__")
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Serve one request. Under an asynchronous handler, return the coroutine that serves it."""
        if self._is_async:
            return self._serve(request)
        instrumentation = conf.current_instrumentation()
        if instrumentation is None:
            return self._get_response(request)
        # The exact test takes ten times as long, and few paths end like this.
        if request.path_info.endswith(instrumentation.suffixes) and is_metrics_path(request):
            return answer_in_thread(request)
        recording = on_request(instrumentation, request, self._has_handler)
        if recording is None:
            with isolated(request):
                return self._get_response(request)
        if not self._is_first:
            signals.finish_with_request(recording)
        get_response = self._get_response
        try:
            response = get_response(request)
        except BaseException as error:
            if recording.recorder.extra_labels:
                recording.compute_extra_labels(request, None, instrumentation.recorder)
            on_exception(recording, request, error)
            raise
        on_response(recording, request, response)
        if recording.recorder.extra_labels:
            recording.compute_extra_labels(request, response, instrumentation.recorder)
        return response

    async def _serve(self, request: HttpRequest) -> Any:
        instrumentation = conf.current_instrumentation()
        if instrumentation is None:
            return await self._get_response(request)
        if request.path_info.endswith(instrumentation.suffixes) and is_metrics_path(request):
            # In the event loop, a scrape of many workers would block every other request.
            discard_scrape(request)
            return await sync_to_async(exposition_response, thread_sensitive=False)(request)
        recording = on_request(instrumentation, request, self._has_handler)
        if recording is None:
            with isolated(request):
                return await self._get_response(request)
        if not self._is_first:
            signals.finish_with_request(recording)
        get_response = self._get_response
        try:
            response = await get_response(request)
            on_response(recording, request, response)
            if recording.recorder.extra_labels:
                await compute_extra_labels(instrumentation, recording, request, response)
        except BaseException as error:
            on_exception(recording, request, error)
            raise
        return response


def watch_exceptions(get_response: GetResponse) -> GetResponse:
    """Record exceptions of views before another middleware answers them.

    The app puts it last in ``MIDDLEWARE``. Django calls the ``process_exception`` of the last middleware
    first, and stops at the one that returns a response. In this case it does not send
    got_request_exception. The function returns ``get_response`` itself, so a request takes no longer.
    """
    get_response.process_exception = signals.add_exception  # type: ignore[attr-defined]
    return get_response


watch_exceptions.sync_capable = watch_exceptions.async_capable = True  # type: ignore[attr-defined]
