"""urllib3: each attempt of a connection pool to make a request, also for requests and botocore."""

from __future__ import annotations

from contextvars import ContextVar
from http.client import HTTPException
from ssl import CertificateError, SSLError
from time import perf_counter
from types import ModuleType
from typing import Any, NamedTuple

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


class _Failure(NamedTuple):
    """An attempt that failed before there was a request, so that its method is not known yet."""

    pool: Any
    error: str
    seconds: float


_failure: ContextVar[_Failure | None] = ContextVar("failure", default=None)

# When the connection through a proxy began, if it was opened for the next request of this thread.
_tunnel_started: ContextVar[float | None] = ContextVar("tunnel_started", default=None)


def patch(urllib3: ModuleType) -> bool:
    """Measure the connection pools of urllib3, and return whether that is possible with this release."""
    pool, https_pool = urllib3.HTTPConnectionPool, urllib3.HTTPSConnectionPool
    return all(
        [
            patch_method(pool, "_make_request", _make_make_request),
            patch_method(pool, "urlopen", _make_urlopen),
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
        outer = current_call.get()
        if outer is not None or ATTRIBUTE not in self.__dict__:
            return original(self, method, url, *args, **kwargs)
        current_call.set(Call(targets_of(self), self, is_requests=False))
        try:
            return original(self, method, url, *args, **kwargs)
        except BaseException as error:
            drop_frame(error)
            raise
        finally:
            current_call.set(None)

    return urlopen


def _make_urlopen(original: Any) -> Any:
    # urlopen calls itself again for each retry.
    def urlopen(self: Any, method: Any, url: Any, *args: Any, **kwargs: Any) -> Any:
        if _failure.get() is not None:
            _record_failure(self, method, url)
        try:
            return original(self, method, url, *args, **kwargs)
        except BaseException as error:
            if _failure.get() is not None:
                _record_failure(self, method, url)
            drop_frame(error)
            raise

    return urlopen


def _make_make_request(original: Any) -> Any:
    def _make_request(self: Any, conn: Any, method: Any, url: Any, *args: Any, **kwargs: Any) -> Any:
        call = current_call.get()
        targets = ProcessTargets.targets if call is None else call.targets
        if not targets:
            return original(self, conn, method, url, *args, **kwargs)
        started = _tunnel_started.get()
        if started is None:
            started = perf_counter()
        else:
            _tunnel_started.set(None)
        try:
            response = original(self, conn, method, url, *args, **kwargs)
        except BaseException as error:
            seconds = perf_counter() - started
            _record(self, method, url, _error_name(error, self, conn), seconds)
            drop_frame(error)
            raise
        seconds = perf_counter() - started
        _record(self, method, url, getattr(response, "status", None), seconds)
        return response

    return _make_request


def _make_get_conn(original: Any) -> Any:
    def _get_conn(self: Any, *args: Any, **kwargs: Any) -> Any:
        started = perf_counter()
        try:
            return original(self, *args, **kwargs)
        except BaseException as error:  # no connection of the pool is free, or the pool is closed
            name = _name_for_user(type(error).__qualname__)
            _failure.set(_Failure(self, name, perf_counter() - started))
            drop_frame(error)
            raise

    return _get_conn


def _make_prepare_proxy(original: Any) -> Any:
    def _prepare_proxy(self: Any, conn: Any) -> Any:
        started = perf_counter()
        try:
            result = original(self, conn)
        except BaseException as error:
            _failure.set(_Failure(self, _error_name(error, self, conn), perf_counter() - started))
            drop_frame(error)
            raise
        _tunnel_started.set(started)
        return result

    return _prepare_proxy


def _record_failure(pool: Any, method: Any, url: Any) -> None:
    failure = _failure.get()
    _failure.set(None)
    if failure is not None and failure.pool is pool:
        _record(pool, method, url, failure.error, failure.seconds)


def _record(pool: Any, method: Any, url: Any, outcome: Any, seconds: float) -> None:
    call = current_call.get()
    targets = ProcessTargets.targets if call is None else call.targets
    if call is not None:
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
    call = current_call.get()
    return _NAMES_IN_REQUESTS.get(name, name) if call is not None and call.is_requests else name
