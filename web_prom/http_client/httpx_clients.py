"""httpx: each request that a client gives to a transport."""

from __future__ import annotations

from time import perf_counter
from types import ModuleType
from typing import Any

from web_prom.http_client.patches import drop_frame, patch_method
from web_prom.http_client.targets import Targets, count_error, record, targets_of

METHOD = "_send_single_request"
"""The method of both clients that sends one request. ``send`` calls it for each redirect and each step of an
authentication, with the transport that belongs to the URL."""


def patch(httpx: ModuleType) -> bool:
    """Measure the clients of httpx, and return whether that is possible with this release.

    httpx2 has the same classes.
    """
    return all(
        [
            patch_method(httpx.Client, METHOD, _make_send),
            patch_method(httpx.AsyncClient, METHOD, _make_async_send),
        ]
    )


def _make_send(original: Any) -> Any:
    def _send_single_request(self: Any, request: Any) -> Any:
        targets = targets_of(self)
        started = perf_counter()
        try:
            response = original(self, request)
        except BaseException as error:
            _record(targets, request, started, error=error)
            drop_frame(error)
            raise
        _record(targets, request, started, response=response)
        return response

    return _send_single_request


def _make_async_send(original: Any) -> Any:
    async def _send_single_request(self: Any, request: Any) -> Any:
        targets = targets_of(self)
        started = perf_counter()
        try:
            response = await original(self, request)
        except BaseException as error:  # also asyncio.CancelledError
            _record(targets, request, started, error=error)
            drop_frame(error)
            raise
        _record(targets, request, started, response=response)
        return response

    return _send_single_request


def _record(
    targets: Targets,
    request: Any,
    started: float,
    *,
    response: Any = None,
    error: BaseException | None = None,
) -> None:
    seconds = perf_counter() - started
    if not targets:
        return
    try:
        outcome = response.status_code if error is None else type(error).__qualname__
        record(targets, request.method, request.url.raw_host, outcome, seconds)
    except Exception:
        count_error(targets)
