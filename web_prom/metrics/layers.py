"""Requests that pass several measured layers. Each registry counts such a request once."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any

from web_prom.metrics.recorder import Recorder
from web_prom.metrics.recording import RECORDING_KEY, Recording
from web_prom.metrics.uncopied import Uncopied

A2WSGI_SCOPE_KEY = "asgi.scope"
"""a2wsgi's key for the ASGI scope, in the environ of a WSGI application inside an ASGI application."""

A2WSGI_ENVIRON_KEY = "wsgi_environ"
"""a2wsgi's key for the WSGI environ, in the scope of an ASGI application inside a WSGI application."""

current_recording: ContextVar[Recording | None] = ContextVar("web_prom_current", default=None)
"""The recording of the ASGI request that runs in this context.

It is set when the application reads the request. Adapters from ASGI to WSGI run their application after
that, in a thread with a copy of the context. If a server runs all requests in one context (granian), this
can be the recording of another request.
"""


class MeasuredProtocols:
    """The protocols of the measured applications of a process.

    Attributes:
        asgi: Whether there is a measured ASGI application. If not, a WSGI request has no outer ASGI
            request, and is not slowed down by the search for one.
    """

    def __init__(self) -> None:
        self.asgi = False


measured_protocols = MeasuredProtocols()
"""Those of this process. It is an object, because a class is read more slowly."""


class ForwardingRecording(Uncopied):
    """The recording of a request in a layer that has an environ or a scope of its own.

    An adapter uses it like a recording. It forwards all changes to the recordings of the outer layers.

    Args:
        outer: The recording of the next outer layer.
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
        """The recorder of the outer recording."""
        return self.outer.recorder

    @property
    def finished(self) -> bool:
        """Whether the request was observed."""
        return self.outer.finished

    @property
    def status(self) -> str | None:
        """The status that the client gets, or None if no response has started."""
        return self.outer.status

    @property
    def extra(self) -> tuple[str, ...]:
        """The values of the extra labels."""
        return self.outer.extra

    @property
    def route(self) -> str | None:
        """The route template. If it is set, the path of the mount is put before it."""
        return self.outer.route

    @route.setter
    def route(self, template: str | None) -> None:
        if self.is_same_request and template is not None:
            mount_path = self.recorder.mount_path
            prefix = "" if mount_path is None else mount_path(self.outer)
            for recording in with_outer(self.outer):
                recording.route = prefix + template

    @property
    def explicit_route(self) -> str | None:
        """The route that the application set itself, or None."""
        return self.outer.explicit_route

    @property
    def measured(self) -> bool:
        """Whether the request is counted. False for an excluded view."""
        return self.outer.measured

    @measured.setter
    def measured(self, measured: bool) -> None:
        if self.is_same_request:
            for recording in with_outer(self.outer):
                recording.measured = measured

    def add_exception(self, error: BaseException) -> None:
        """Keep an exception, as :meth:`Recording.add_exception`."""
        if self.is_same_request:
            for recording in with_outer(self.outer):
                recording.add_exception(error)

    @property
    def last_error(self) -> BaseException | None:
        """The exception that was added last, or None."""
        return self.outer.last_error

    def compute_extra_labels(self, *args: Any, **options: Any) -> None:
        """Compute the extra labels, as :meth:`Recording.compute_extra_labels`."""
        if self.is_same_request:
            self.outer.compute_extra_labels(*args, **options)


def with_outer(recording: Any) -> list[Recording]:
    """Return a recording and all outer recordings, from the innermost to the outermost."""
    recordings = []
    while recording is not None:
        if not isinstance(recording, ForwardingRecording):
            recordings.append(recording)
        recording = recording.outer
    return recordings


def affected_recordings(recording: Any) -> list[Recording]:
    """Return the recordings that get what a layer finds out about its request."""
    if isinstance(recording, ForwardingRecording) and not recording.is_same_request:
        return []
    return with_outer(recording)


def find_outer(environ: MutableMapping[str, Any]) -> Any:
    """Return the unfinished recording that a WSGI request is part of, or None. Never raises.

    If it is the recording of an ASGI request, a :class:`ForwardingRecording` is stored in the environ, where
    adapters look for a recording.
    """
    recording = environ.get(RECORDING_KEY)
    if recording is None:
        try:
            recording = _find_outer_of_other_protocol(environ)
        except Exception:  # another library uses the keys for something else
            return None
    return None if recording is None or recording.finished else recording


def _find_outer_of_other_protocol(environ: MutableMapping[str, Any]) -> Any:
    scope = environ.get(A2WSGI_SCOPE_KEY)
    outer = None if scope is None else scope.get(RECORDING_KEY)
    is_same_request = outer is not None
    if outer is None:
        outer = current_recording.get()
        if outer is not None and not outer.finished:
            is_same_request = _is_same_request(getattr(outer, "scope", {}), environ)
    if outer is None or outer.finished:
        return None
    environ[RECORDING_KEY] = ForwardingRecording(outer, is_same_request=is_same_request)
    return environ[RECORDING_KEY]


def find_outer_asgi(scope: Mapping[str, Any]) -> Any:
    """Return the unfinished recording that an ASGI request is part of, or None. Never raises."""
    recording = scope.get(RECORDING_KEY)
    if recording is None and isinstance(scope.get(A2WSGI_ENVIRON_KEY), MutableMapping):
        recording = find_outer(scope[A2WSGI_ENVIRON_KEY])
        if recording is not None:
            recording = ForwardingRecording(recording, scope=scope)
    return None if recording is None or recording.finished else recording


def is_counted_by(outer: Any, recorder: Recorder) -> bool:
    """Tell whether an outer recording counts the request in the families of a recorder."""
    return outer.recorder is recorder or any(
        recording.recorder.shares_families_with(recorder) for recording in with_outer(outer)
    )


def forward(inner: Recording, outer: Any) -> None:
    """Copy the route, the exclusion and the exceptions of an inner recording to the outer one."""
    if inner.route is not None:
        outer.route = inner.route
    if not inner.measured:
        outer.measured = False
    for error in inner._errors or ():
        outer.add_exception(error)


def discard(recording: Any) -> None:
    """Finish a request that is not counted, for example a scrape. Never raises."""
    for affected in affected_recordings(recording):
        affected.measured = False
        affected.finish()


def _is_same_request(scope: Mapping[str, Any], environ: Mapping[str, Any]) -> bool:
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
