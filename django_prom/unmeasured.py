"""Requests that are not measured: scrapes, and requests that the application makes to itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django_prom.signals import STARTED
from web_prom.metrics.layers import discard
from web_prom.metrics.recording import RECORDING_KEY


@contextmanager
def apart(request: Any) -> Iterator[None]:
    """Keep a request that is not measured away from the recording of the request that it was copied from.

    Otherwise its route, its exceptions and its exclusion would count for the outer request.
    """
    hidden = []
    for place in (request.META, getattr(request, "scope", {})):
        recording = place.get(RECORDING_KEY)
        if recording is not None and getattr(recording, "request_id", None) not in (None, id(request)):
            hidden.append((place, place.pop(RECORDING_KEY)))
    try:
        yield
    finally:
        for place, recording in hidden:  # it may be the outer request's own
            place[RECORDING_KEY] = recording


def is_clients(request: Any) -> bool:
    """Tell whether a request is one of a client, for which Django sent request_started. Never raises."""
    recording = request.META.get(RECORDING_KEY)
    scope = getattr(request, "scope", None)
    return (
        STARTED in request.META
        or (scope is not None and STARTED in scope)
        or getattr(recording, "request_id", None) == id(request)
    )


def withdraw(request: Any) -> None:
    """Do not measure a request, which is a scrape; it is no longer in progress. Never raises.

    A scrape that the application makes to itself does not change the request that it was copied from.
    """
    scope = getattr(request, "scope", None)
    recording = request.META.get(RECORDING_KEY) or (None if scope is None else scope.get(RECORDING_KEY))
    if recording is None or not is_clients(request):
        return
    if getattr(recording, "request_id", id(request)) == id(request):
        discard(recording)
