"""The middleware: measures every request, answers scrapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed

from django_prom import conf, signals
from django_prom.labelling import label
from django_prom.middleware_install import MIDDLEWARE
from django_prom.recording import abort, begin, end
from django_prom.routes import is_metrics_path
from django_prom.unmeasured import apart, withdraw
from django_prom.views import answer, answer_in_request
from web_prom.errors import WebPromError
from web_prom.metrics.recording import Recording

GetResponse = Callable[[Any], Any]


class PrometheusMiddleware:
    """Measure every request, and answer scrapes before any other middleware sees them.

    The app puts it first in ``MIDDLEWARE``. One placed lower does not measure what a middleware above it
    answers. It serves both kinds of handlers without a change of thread; a request leaves nothing on it.

    Raises:
        ImproperlyConfigured: The settings are wrong; the server does not start without being measured.
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
        # Where no middleware stands above, none can put our response aside.
        self._is_first = bool(settings.MIDDLEWARE) and settings.MIDDLEWARE[0] == MIDDLEWARE
        if not self._is_first:
            signals.finish_replaced()
        # Each callable that a handler gives to a middleware is wrapped; a test may call us without a handler.
        self._served = hasattr(get_response, "__wrapped__")
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Serve one request; for an asynchronous handler, return the coroutine that does."""
        if self._is_async:
            return self._serve(request)
        instrumentation = conf.current()
        if instrumentation is None:
            return self._get_response(request)
        # Nearly no path ends like that: the exact answer costs ten times as much.
        if request.path_info.endswith(instrumentation.suffixes) and is_metrics_path(request):
            return answer_in_request(request)
        recording = self._begin(instrumentation, request)
        if recording is None:
            with apart(request):
                return self._get_response(request)
        try:
            response = self._get_response(request)
        except BaseException as error:
            abort(recording, request, error)
            raise
        end(recording, request, response)
        return response

    async def _serve(self, request: Any) -> Any:
        instrumentation = conf.current()
        if instrumentation is None:
            return await self._get_response(request)
        if request.path_info.endswith(instrumentation.suffixes) and is_metrics_path(request):
            # A scrape of many workers takes long enough to hold up every other request of the loop.
            withdraw(request)
            return await sync_to_async(answer, thread_sensitive=False)(request)
        recording = self._begin(instrumentation, request)
        if recording is None:
            with apart(request):
                return await self._get_response(request)
        try:
            response = await self._get_response(request)
            end(recording, request, response, labels=False)
            if recording.recorder.extra_labels:
                await label(instrumentation, recording, request, response)
        except BaseException as error:
            abort(recording, request, error)
            raise
        return response

    def _begin(self, instrumentation: conf.Instrumentation, request: Any) -> Recording | None:
        recording = begin(instrumentation, request, served=self._served)
        if recording is not None and not self._is_first:
            signals.watch_replaced(recording)
        return recording


def watch_exceptions(get_response: GetResponse) -> GetResponse:
    """Note the exceptions that leave views, before another middleware answers them.

    The app puts it last in ``MIDDLEWARE``: Django asks the ``process_exception`` of the last middleware
    first, and nobody after the one that answers; got_request_exception is not sent then. The next
    callable itself is returned, so that a request costs nothing more.
    """
    get_response.process_exception = signals.note  # type: ignore[attr-defined]
    return get_response


watch_exceptions.sync_capable = watch_exceptions.async_capable = True  # type: ignore[attr-defined]
