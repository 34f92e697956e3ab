"""requests: each ``Session.send``, unless urllib3 carries it out and counts its requests."""

from __future__ import annotations

from time import perf_counter
from types import ModuleType
from typing import Any

from web_prom.http_client.calls import Call, current_call
from web_prom.http_client.labels import host_of
from web_prom.http_client.patches import drop_frame, patch_method
from web_prom.http_client.targets import count_error, record, targets_of


def patch(requests: ModuleType) -> bool:
    """Measure the sessions of requests, and return whether that is possible with this release."""
    redirects = requests.sessions.SessionRedirectMixin
    return all(
        [
            patch_method(requests.Session, "send", _make_send),
            patch_method(redirects, "get_redirect_target", _make_get_redirect_target),
        ]
    )


def patch_session(session: Any, base: type) -> None:
    """Measure the ``send`` of each class of a session: an override may not call that of its base class.

    Args:
        session: The session.
        base: The class ``requests.Session``.
    """
    for cls in type(session).__mro__:
        if issubclass(cls, base):
            patch_method(cls, "send", _make_send)


def _make_send(original: Any) -> Any:
    def send(self: Any, request: Any, **kwargs: Any) -> Any:
        targets = targets_of(self)
        outer = current_call.get()
        if not targets or (outer is not None and outer.owner is request):
            return original(self, request, **kwargs)
        call = Call(targets, request, is_requests=True)
        current_call.set(call)
        try:
            response = original(self, request, **kwargs)
        except BaseException as error:
            if not call.is_counted:
                _record(call, type(error).__qualname__)
            drop_frame(error)
            raise
        finally:
            current_call.set(outer)
        if not call.is_counted:
            _record(call, getattr(response, "status_code", None))
        return response

    return send


def _make_get_redirect_target(original: Any) -> Any:
    # Session.send calls it with each response, before it follows a redirect: each redirect is a request.
    def get_redirect_target(self: Any, resp: Any) -> Any:
        call = current_call.get()
        if call is not None and not call.is_counted and call.is_requests:
            _record(call, getattr(resp, "status_code", None))
        return original(self, resp)

    return get_redirect_target


def _record(call: Call, outcome: Any) -> None:
    seconds = perf_counter() - call.started
    call.is_counted = True
    try:
        record(call.targets, call.owner.method, host_of(call.owner.url), outcome, seconds)
    except Exception:
        count_error(call.targets)
