"""Requests that pass several measured layers: each registry counts them once."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any

from web_prom.metrics.recording import RECORDING_KEY, Recorder, Recording

ASGI_SCOPE = "asgi.scope"
"""Where a2wsgi keeps the scope in the environ of a WSGI application inside an ASGI application."""

WSGI_ENVIRON = "wsgi_environ"
"""Where a2wsgi keeps the environ in the scope of an ASGI application inside a WSGI application."""

current: ContextVar[Recording | None] = ContextVar("web_prom_current", default=None)
"""The recording of the ASGI request that runs in this context.

Set as the application reads the request. Adapters from ASGI to WSGI then run their application in a thread
with a copy of the context. Where a server runs all requests in one context (granian), this can be the
recording of another request.
"""


class State:
    """What this process measures.

    Attributes:
        asgi: Whether it has a measured ASGI application. Without one, a WSGI request has no ASGI request
            around it, and pays nothing for the search.
    """

    asgi = False


class ForwardingRecording:
    """Stands for the recording of a request in a layer that has an environ or a scope of its own.

    An adapter writes to it as to a recording. It hands on everything to the recordings around it.

    Args:
        outer: The innermost recording around the layer.
        is_same_request: Whether the layer serves the same request. If not, the application called itself
            inside the process, and nothing is forwarded.
        scope: The layer's scope, if it is an ASGI layer.
    """

    def __init__(self, outer: Recording, *, is_same_request: bool = True, scope: Any = None) -> None:
        self.outer = outer
        self.scope = scope
        self.is_same_request = is_same_request

    @property
    def recorder(self) -> Recorder:
        """That of the recording around the layer."""
        return self.outer.recorder

    @property
    def finished(self) -> bool:
        """Whether the request was observed."""
        return self.outer.finished

    @property
    def status(self) -> str | None:
        """The status that the client gets, if there is one yet."""
        return self.outer.status

    @property
    def extra(self) -> tuple[str, ...]:
        """Values of the extra labels."""
        return self.outer.extra

    @property
    def route(self) -> str | None:
        """The route template; one that is set gets the path of the mount before it."""
        return self.outer.route

    @route.setter
    def route(self, template: str | None) -> None:
        if self.is_same_request and template is not None:
            mount_path = self.recorder.mount_path
            prefix = "" if mount_path is None else mount_path(self.outer)
            for each in with_outer(self.outer):
                each.route = prefix + template

    @property
    def explicit_route(self) -> str | None:
        """The route that the application named itself."""
        return self.outer.explicit_route

    @property
    def measured(self) -> bool:
        """Whether the request is counted; False for an excluded view."""
        return self.outer.measured

    @measured.setter
    def measured(self, measured: bool) -> None:
        if self.is_same_request:
            for each in with_outer(self.outer):
                each.measured = measured

    def add_exception(self, error: BaseException) -> None:
        """Remember an exception, as :meth:`Recording.add_exception`."""
        if self.is_same_request:
            for each in with_outer(self.outer):
                each.add_exception(error)

    def compute_extra_labels(self, request: Any, response: Any) -> None:
        """Compute the extra labels, as :meth:`Recording.compute_extra_labels`."""
        if self.is_same_request:
            self.outer.compute_extra_labels(request, response)


def with_outer(recording: Any) -> list[Recording]:
    """Return a recording and all around it, from the innermost to the outermost."""
    found = []
    while recording is not None:
        if not isinstance(recording, ForwardingRecording):
            found.append(recording)
        recording = recording.outer
    return found


def affected_recordings(recording: Any) -> list[Recording]:
    """Return the recordings that hear what a layer knows about a request."""
    return (
        []
        if isinstance(recording, ForwardingRecording) and not recording.is_same_request
        else with_outer(recording)
    )


def find_outer(environ: MutableMapping[str, Any]) -> Any:
    """Return the unfinished recording that a WSGI request is part of, or None. Never raises.

    If it is the recording of an ASGI request, a :class:`ForwardingRecording` is stored in the environ, where
    adapters look for a recording.
    """
    recording = environ.get(RECORDING_KEY)
    if recording is None:
        try:
            recording = _find_in_asgi(environ)
        except Exception:  # somebody else means something else by the keys
            return None
    return None if recording is None or recording.finished else recording


def _find_in_asgi(environ: MutableMapping[str, Any]) -> Any:
    scope = environ.get(ASGI_SCOPE)
    outer = None if scope is None else scope.get(RECORDING_KEY)
    is_same_request = outer is not None
    if outer is None:
        outer = current.get()
        if outer is not None and not outer.finished:
            is_same_request = _is_same(getattr(outer, "scope", {}), environ)
    if outer is None or outer.finished:
        return None
    environ[RECORDING_KEY] = ForwardingRecording(outer, is_same_request=is_same_request)
    return environ[RECORDING_KEY]


def find_outer_asgi(scope: Mapping[str, Any]) -> Any:
    """Return the unfinished recording that an ASGI request is part of, or None. Never raises."""
    recording = scope.get(RECORDING_KEY)
    if recording is None and isinstance(scope.get(WSGI_ENVIRON), MutableMapping):
        recording = find_outer(scope[WSGI_ENVIRON])
        if recording is not None:
            recording = ForwardingRecording(recording, scope=scope)
    return None if recording is None or recording.finished else recording


def is_counted_by(outer: Any, recorder: Recorder) -> bool:
    """Tell whether a recording, or one around it, counts where a recorder would count."""
    return outer.recorder is recorder or any(
        each.recorder.counts_with(recorder) for each in with_outer(outer)
    )


def forward(inner: Recording, outer: Any) -> None:
    """Tell the recording around another one what the inner one learnt."""
    if inner.route is not None:
        outer.route = inner.route
    if not inner.measured:
        outer.measured = False
    for error in inner._errors or ():
        outer.add_exception(error)


def discard(recording: Any) -> None:
    """End a request that is not counted, for example a scrape, in the gauge too. Never raises."""
    for each in affected_recordings(recording):
        each.measured = False
        each.finish()


def _is_same(scope: Mapping[str, Any], environ: Mapping[str, Any]) -> bool:
    """Tell whether a WSGI environ was made from an ASGI scope."""
    try:
        path, root = scope["path"], scope.get("root_path", "")
        script = environ.get("SCRIPT_NAME", "").encode("latin-1").decode()
        info = environ.get("PATH_INFO", "").encode("latin-1").decode()
        return (
            environ["REQUEST_METHOD"] == scope["method"]
            and environ.get("QUERY_STRING", "") == str(scope.get("query_string", b""), "latin-1")
            and (info in (path, path.removeprefix(root)) or script + info in (path, root + path))
        )
    except (KeyError, ValueError):
        return False
