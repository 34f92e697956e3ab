"""The start and the end of a Django request, as the middleware sees them."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_prom import routes
from django_prom.conf import Instrumentation
from django_prom.recording import RequestRecording
from django_prom.signals import STARTED_KEY
from web_prom.metrics.labels import STATUS_TEXTS
from web_prom.metrics.layers import (
    ForwardingRecording,
    find_outer,
    forward,
    is_counted_by,
    measured_protocols,
)
from web_prom.metrics.queue_time import CONNECTION_KEY, HEADER_KEY
from web_prom.metrics.recording import RECORDING_KEY, Recording
from web_prom.runtime.this_process import measurements


def on_request(  # noqa: C901 - in one function, because more calls would make each request slower
    instrumentation: Instrumentation, request: HttpRequest, has_handler: bool
) -> Recording | None:
    """Return the recording of a client's request: a new one, or that of an outer layer.

    Django sends request_started for requests of clients, including test clients. If it did not send the
    signal, the application made the request, for example for the preview of a page. Such a request is not
    measured. Django also sends the signal if the application calls a handler with a copy of a request's
    environ or scope. The copy has the recording of the outer request, and is not measured either.

    Args:
        instrumentation: The recorder and the settings of the project.
        request: Django's request.
        has_handler: Whether a handler of Django calls the middleware. If not, every request is measured.

    Returns:
        The recording, or None if the request is not measured. Never raises.
    """
    recorder = instrumentation.recorder
    try:
        meta = request.META
        started = meta.pop(STARTED_KEY, None)
        scope = None
        if started is None:  # under ASGI, META is Django's own dict; a test can also create the request
            scope = getattr(request, "scope", None)
            if scope is not None:
                started = scope.pop(STARTED_KEY, None)
            if has_handler and started is None:
                return None
        outer = None
        if RECORDING_KEY in meta or (measured_protocols.asgi if scope is None else RECORDING_KEY in scope):
            outer = _find_outer(meta, scope)
        if outer is not None:
            inner = outer.outer if isinstance(outer, ForwardingRecording) else outer
            if hasattr(inner, "request_id") and inner.status is None:
                return None
            inner.request_id = outer.request_id = id(request)
            if is_counted_by(outer, recorder):
                meta[RECORDING_KEY] = outer
                return outer  # type: ignore[no-any-return]  # it has the attributes of a recording
        recording_class, start_key = instrumentation.recording_class, instrumentation.start_key
        recording = meta[RECORDING_KEY] = recording_class(recorder, start_key(request), started)
        recording.request_id = id(request)
        if outer is not None:
            recording.outer = outer
        if scope is not None:
            scope[RECORDING_KEY] = recording
            measurements.loop.start()
    except Exception:
        recorder.record_internal_error("start")
        return None
    # Most requests have neither key, and then there is no queue time to observe.
    if recorder.measures_sizes or CONNECTION_KEY in meta or HEADER_KEY in meta:
        try:
            recording.on_start(request)
        except Exception:
            recorder.record_internal_error("start")
    return recording


def on_response(recording: Recording, request: HttpRequest, response: HttpResponseBase) -> None:
    """Store the status and the route, and finish the recording with the body. Never raises.

    Args:
        recording: The recording of the request.
        request: Django's request.
        response: Django's response.
    """
    try:
        if isinstance(recording, RequestRecording):
            code = response.status_code
            recording.status = STATUS_TEXTS.get(code) or f"{code:d}"
            response._resource_closers.append(recording.finish)
            if recording.recorder.measures_sizes or response.streaming:
                recording.wrap_body(request, response)
    except Exception:
        recording.recorder.record_internal_error("follow")
    try:
        match = request.resolver_match
        try:
            route = None if match is None else routes.route_cache.get((match.route, match.func))
        except Exception:  # find_route() knows views without a hash
            route = None
        if route is None:
            _set_route(recording, request, routes.find_route(request, response))
        else:  # the same as _set_route(), without the call
            if recording.explicit_route is None:
                recording.route = route.template
            if route.excluded and request.method in route.excluded:
                recording.measured = False
        if isinstance(recording, RequestRecording) and recording.outer is not None:
            forward(recording, recording.outer)
    except Exception:
        recording.recorder.record_internal_error("annotate")


def on_exception(recording: Recording, request: HttpRequest, error: BaseException) -> None:
    """Finish the recording of a request that ends with an exception and no response. Never raises."""
    try:
        _set_route(recording, request, routes.find_route(request, None))
    except Exception:
        recording.recorder.record_internal_error("annotate")
    if isinstance(recording, RequestRecording):
        recording.on_exception(error, asgi=hasattr(request, "scope"), response_started=False)


def _set_route(recording: Recording, request: HttpRequest, route: routes.Route | None) -> None:
    if recording.explicit_route is None:
        recording.route = None if route is None else route.template
    if route is not None and route.excluded and request.method in route.excluded:
        recording.measured = False


def _find_outer(meta: dict[str, Any], scope: Any) -> Any:
    """Return the unfinished recording of an outer layer, or None."""
    recording = meta.get(RECORDING_KEY)
    if recording is None:
        if scope is not None:
            recording = scope.get(RECORDING_KEY)
            if recording is not None and recording.recorder.mount_path is not None:
                recording = ForwardingRecording(recording)
        elif measured_protocols.asgi:
            recording = find_outer(meta)
    return None if recording is None or recording.finished else recording
