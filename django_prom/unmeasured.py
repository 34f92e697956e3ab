"""Requests that are not measured: scrapes, and requests that the application makes to itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.http import HttpRequest

from django_prom.signals import STARTED_KEY
from web_prom.metrics.layers import discard
from web_prom.metrics.recording import RECORDING_KEY


@contextmanager
def isolated(request: HttpRequest) -> Iterator[None]:
    """Hide the recording of the outer request from a copied request that is not measured.

    Otherwise the route, the exceptions and the exclusion of the copy would count for the outer request.
    """
    hidden = []
    for mapping in (request.META, getattr(request, "scope", {})):
        recording = mapping.get(RECORDING_KEY)
        if recording is not None and getattr(recording, "request_id", None) not in (None, id(request)):
            hidden.append((mapping, mapping.pop(RECORDING_KEY)))
    try:
        yield
    finally:
        for mapping, recording in hidden:  # the outer request can use the same mapping
            mapping[RECORDING_KEY] = recording


def is_client_request(request: HttpRequest) -> bool:
    """Return whether a client made a request, and not the application itself. Never raises.

    Django sends request_started only for requests of clients.
    """
    recording = request.META.get(RECORDING_KEY)
    scope = getattr(request, "scope", None)
    return (
        STARTED_KEY in request.META
        or (scope is not None and STARTED_KEY in scope)
        or getattr(recording, "request_id", None) == id(request)
    )


def discard_scrape(request: HttpRequest) -> None:
    """Finish the recording of a scrape without counting it. Never raises.

    If the application scrapes itself, the recording of the outer request does not change.
    """
    scope = getattr(request, "scope", None)
    recording = request.META.get(RECORDING_KEY) or (None if scope is None else scope.get(RECORDING_KEY))
    if recording is None or not is_client_request(request):
        return
    if getattr(recording, "request_id", id(request)) == id(request):
        discard(recording)
