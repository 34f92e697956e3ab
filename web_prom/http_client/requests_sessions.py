"""requests: what its adapters send without urllib3. What they send through urllib3 is counted there."""

from __future__ import annotations

from time import perf_counter
from types import ModuleType
from typing import Any

from web_prom.http_client.calls import Call, current_call
from web_prom.http_client.labels import host_of
from web_prom.http_client.patches import drop_frame, patch_method
from web_prom.http_client.targets import ATTRIBUTE, ProcessTargets, count_error, record, targets_of


class _SessionCall(Call):
    """The call of a session that is measured on its own. No adapter of another package is inside it."""

    __slots__ = ()


def patch(requests: ModuleType) -> bool:
    """Measure the adapters of sessions, and return whether that is possible with this release."""
    http_adapter = requests.adapters.HTTPAdapter

    def make_get_adapter(original: Any) -> Any:
        def get_adapter(self: Any, url: Any) -> Any:
            try:
                adapter = original(self, url)
            except BaseException as error:
                drop_frame(error)
                raise
            if not isinstance(adapter, http_adapter):
                _patch_adapter(adapter)
            return adapter

        return get_adapter

    return patch_method(requests.Session, "get_adapter", make_get_adapter)


def patch_session(session: Any, base: type) -> None:
    """Measure the requests of a session.

    Args:
        session: The session.
        base: The class ``requests.Session``.
    """
    for cls in type(session).__mro__:
        if issubclass(cls, base):
            patch_method(cls, "send", _make_session_send)


def _make_session_send(original: Any) -> Any:
    def send(self: Any, request: Any, **kwargs: Any) -> Any:
        outer = current_call.get()
        call = outer
        if ATTRIBUTE in self.__dict__:
            call = _SessionCall(targets_of(self), request)
        elif isinstance(outer, _SessionCall):  # a hook of another session sends this request
            call = None
        if call is not outer:
            current_call.set(call)
        try:
            return original(self, request, **kwargs)
        except BaseException as error:
            drop_frame(error)
            raise
        finally:
            if call is not outer:
                current_call.set(outer)

    return send


def _patch_adapter(adapter: Any) -> None:
    """Measure the class of an adapter that is not that of requests."""
    for cls in type(adapter).__mro__:
        if patch_method(cls, "send", _make_adapter_send):
            return


def _make_adapter_send(original: Any) -> Any:
    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        outer = current_call.get()
        targets = ProcessTargets.targets if outer is None else outer.targets
        call = Call(targets, request)
        if targets:
            current_call.set(call)
        started = perf_counter()
        try:
            response = original(self, request, *args, **kwargs)
        except BaseException as error:
            _record(call, type(error).__qualname__, perf_counter() - started)
            drop_frame(error)
            raise
        finally:
            if targets:
                current_call.set(outer)
        _record(call, getattr(response, "status_code", None), perf_counter() - started)
        return response

    return send


def _record(call: Call, outcome: Any, seconds: float) -> None:
    """Observe a request, unless urllib3 has counted it."""
    if call.is_counted or not call.targets:
        return
    try:
        record(call.targets, call.owner.method, host_of(call.owner.url), outcome, seconds)
    except Exception:
        count_error(call.targets)
