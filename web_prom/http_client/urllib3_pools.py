"""urllib3: each attempt of a connection pool to make a request, also for requests and botocore."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from http.client import HTTPException
from inspect import signature
from ssl import CertificateError, SSLError
from time import perf_counter
from types import FrameType, ModuleType
from typing import Any

from web_prom.http_client.calls import Call, current_call
from web_prom.http_client.labels import host_of
from web_prom.http_client.patches import drop_frame, patch_method
from web_prom.http_client.targets import ATTRIBUTE, ProcessTargets, count_error, record, targets_of

# The names that requests gives to exceptions of urllib3 (HTTPAdapter.send).
_NAMES_IN_REQUESTS = {
    "ClosedPoolError": "ConnectionError",
    "ConnectTimeoutError": "ConnectTimeout",
    "NameResolutionError": "ConnectionError",
    "NewConnectionError": "ConnectionError",
    "ProtocolError": "ConnectionError",
    "ReadTimeoutError": "ReadTimeout",
}

# Exceptions of urllib3 that it raises as ProxyError if there is no connection to the proxy yet.
_PROXY_ERRORS = {"ConnectTimeoutError", "NameResolutionError", "NewConnectionError", "ReadTimeoutError"}


# When the connection through a proxy began, if it was opened for the next request of this thread.
_tunnel_started: ContextVar[float | None] = ContextVar("tunnel_started", default=None)


def patch(urllib3: ModuleType) -> bool:
    """Measure the connection pools of urllib3, and return whether that is possible with this release."""
    pool, https_pool = urllib3.HTTPConnectionPool, urllib3.HTTPSConnectionPool
    return all(
        [
            patch_method(pool, "_make_request", _make_make_request),
            patch_method(pool, "_get_conn", _make_get_conn),
            patch_method(https_pool, "_prepare_proxy", _make_prepare_proxy),
        ]
    )


def patch_manager(manager: Any, base: type) -> None:
    """Measure the requests of a pool manager.

    Args:
        manager: The pool manager.
        base: The class ``urllib3.PoolManager``.
    """
    for cls in type(manager).__mro__:
        if issubclass(cls, base):
            patch_method(cls, "urlopen", _make_manager_urlopen)


def _make_manager_urlopen(original: Any) -> Any:
    def urlopen(self: Any, method: Any, url: Any, *args: Any, **kwargs: Any) -> Any:
        is_measured = ATTRIBUTE in self.__dict__ and current_call.get() is None
        if is_measured:
            current_call.set(Call(targets_of(self), self))
        try:
            return original(self, method, url, *args, **kwargs)
        except BaseException as error:
            drop_frame(error)
            raise
        finally:
            if is_measured:
                current_call.set(None)

    return urlopen


def _make_make_request(original: Any) -> Any:
    """Return a replacement with the parameters of urllib3 2, or one that takes any others.

    Passing on named parameters takes a third of the time of passing on a dictionary.
    """

    def _make_request(  # noqa: PLR0917
        self: Any,
        conn: Any,
        method: Any,
        url: Any,
        body: Any = None,
        headers: Any = None,
        retries: Any = None,
        timeout: Any = None,
        chunked: Any = False,
        response_conn: Any = None,
        preload_content: Any = True,
        decode_content: Any = True,
        enforce_content_length: Any = True,
    ) -> Any:
        started = _tunnel_started.get()
        if started is None:
            started = perf_counter()
        else:
            _tunnel_started.set(None)
        try:
            response = original(
                *(self, conn, method, url, body, headers, retries, timeout, chunked, response_conn),
                *(preload_content, decode_content, enforce_content_length),
            )
        except BaseException as error:
            _record(self, method, url, _error_name(error, self, conn), perf_counter() - started)
            drop_frame(error)
            raise
        _record(self, method, url, getattr(response, "status", None), perf_counter() - started)
        return response

    def _make_request_of_any_release(
        self: Any, conn: Any, method: Any, url: Any, *args: Any, **kwargs: Any
    ) -> Any:
        started = _tunnel_started.get() or perf_counter()
        _tunnel_started.set(None)
        try:
            response = original(self, conn, method, url, *args, **kwargs)
        except BaseException as error:
            _record(self, method, url, _error_name(error, self, conn), perf_counter() - started)
            drop_frame(error)
            raise
        _record(self, method, url, getattr(response, "status", None), perf_counter() - started)
        return response

    if list(signature(original).parameters) != list(signature(_make_request).parameters):
        return _make_request_of_any_release
    _make_request.__defaults__ = original.__defaults__
    return _make_request


def _make_get_conn(original: Any) -> Any:
    def _get_conn(self: Any, timeout: Any = None) -> Any:
        started = perf_counter()
        try:
            return original(self, timeout)
        except BaseException as error:  # no connection of the pool is free, or the pool is closed
            method, url = _arguments_of(sys._getframe(1))
            _record(self, method, url, _name_for_user(type(error).__qualname__), perf_counter() - started)
            drop_frame(error)
            raise

    return _get_conn


def _make_prepare_proxy(original: Any) -> Any:
    def _prepare_proxy(self: Any, conn: Any) -> Any:
        started = perf_counter()
        try:
            result = original(self, conn)
        except BaseException as error:
            method, url = _arguments_of(sys._getframe(1))
            _record(self, method, url, _error_name(error, self, conn), perf_counter() - started)
            drop_frame(error)
            raise
        _tunnel_started.set(started)
        return result

    return _prepare_proxy


def _arguments_of(frame: FrameType) -> tuple[Any, str]:
    """Return the method and the URL of a call of ``urlopen`` that failed before it had a request.

    They are no arguments of the methods that fail. A wrapper of ``urlopen`` would need half of the time of
    the whole measurement in each request.
    """
    variables = frame.f_locals
    return variables.get("method"), str(variables.get("url") or "/")


def _record(pool: Any, method: Any, url: Any, outcome: Any, seconds: float) -> None:
    call = current_call.get()
    if call is None:
        targets = ProcessTargets.targets
        if not targets:
            return
    else:
        targets = call.targets
        call.is_counted = True
    try:
        # The URL has a host if the pool is one of a proxy.
        host = pool.host if url[:1] == "/" else host_of(url) or pool.host
        record(targets, method, host, outcome, seconds)
    except Exception:
        count_error(targets)


def _error_name(error: BaseException, pool: Any, conn: Any) -> str:
    """Return the name of an exception as the user of the library sees it (``HTTPConnectionPool.urlopen``)."""
    name = type(error).__qualname__
    if isinstance(error, SSLError | CertificateError):
        name = "SSLError"
    is_network_error = isinstance(error, OSError | HTTPException)
    if (is_network_error or name in _PROXY_ERRORS) and _is_connecting_to_proxy(pool, conn):
        name = "ProxyError"
    elif is_network_error and name != "SSLError":
        name = "ProtocolError"
    return _name_for_user(name)


def _is_connecting_to_proxy(pool: Any, conn: Any) -> bool:
    proxy = getattr(conn, "proxy", getattr(pool, "proxy", None))
    return proxy is not None and not getattr(conn, "has_connected_to_proxy", False)


def _name_for_user(name: str) -> str:
    return _NAMES_IN_REQUESTS.get(name, name) if _is_called_by_requests() else name


def _is_called_by_requests() -> bool:
    """Return whether an adapter of requests makes the request. Only requests that fail come here."""
    adapters = sys.modules.get("requests.adapters")
    code = getattr(getattr(getattr(adapters, "HTTPAdapter", None), "send", None), "__code__", None)
    frame: FrameType | None = sys._getframe(2)
    while code is not None and frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False
