"""Requests that pass several measured layers: each registry counts them once."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any

from web_prom.metrics.recording import KEY, Recorder, Recording

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


class Inside:
    """Stands for the recording of a request in a layer that has an environ or a scope of its own.

    An adapter writes to it as to a recording. It hands on everything to the recordings around it.

    Args:
        around: The innermost recording around the layer.
        knows: Whether the layer serves the same request. If it does not, the application called itself
            inside the process, and nothing is handed on.
        scope: The layer's scope, if it is an ASGI layer.
    """

    def __init__(self, around: Recording, *, knows: bool = True, scope: Any = None) -> None:
        self.around = around
        self.scope = scope
        self.knows = knows

    @property
    def recorder(self) -> Recorder:
        """That of the recording around the layer."""
        return self.around.recorder

    @property
    def finished(self) -> bool:
        """Whether the request was observed."""
        return self.around.finished

    @property
    def status(self) -> str | None:
        """The status that the client gets, if there is one yet."""
        return self.around.status

    @property
    def extra(self) -> tuple[str, ...]:
        """Values of the extra labels."""
        return self.around.extra

    @property
    def route(self) -> str | None:
        """The route template; one that is set gets the path of the mount before it."""
        return self.around.route

    @route.setter
    def route(self, template: str | None) -> None:
        if self.knows and template is not None:
            mount_path = self.recorder.mount_path
            prefix = "" if mount_path is None else mount_path(self.around)
            for each in chain(self.around):
                each.route = prefix + template

    @property
    def named(self) -> str | None:
        """The route that the application named itself."""
        return self.around.named

    @property
    def measured(self) -> bool:
        """Whether the request is counted; False for an excluded view."""
        return self.around.measured

    @measured.setter
    def measured(self, measured: bool) -> None:
        if self.knows:
            for each in chain(self.around):
                each.measured = measured

    def note(self, error: BaseException) -> None:
        """Remember an exception, as :meth:`Recording.note`."""
        if self.knows:
            for each in chain(self.around):
                each.note(error)

    def annotate(self, request: Any, response: Any) -> None:
        """Compute the extra labels, as :meth:`Recording.annotate`."""
        if self.knows:
            self.around.annotate(request, response)


def chain(recording: Any) -> list[Recording]:
    """Return a recording and all around it, from the innermost to the outermost."""
    found = []
    while recording is not None:
        if not isinstance(recording, Inside):
            found.append(recording)
        recording = recording.around
    return found


def told(recording: Any) -> list[Recording]:
    """Return the recordings that hear what a layer knows about a request."""
    return [] if isinstance(recording, Inside) and not recording.knows else chain(recording)


def find(environ: MutableMapping[str, Any]) -> Any:
    """Return the unfinished recording that a WSGI request is part of, or None. Never raises.

    If it is the recording of an ASGI request, an :class:`Inside` is put into the environ, where adapters
    look for a recording.
    """
    recording = environ.get(KEY)
    if recording is None:
        try:
            recording = _find_in_asgi(environ)
        except Exception:  # somebody else means something else by the keys
            return None
    return None if recording is None or recording.finished else recording


def _find_in_asgi(environ: MutableMapping[str, Any]) -> Any:
    scope = environ.get(ASGI_SCOPE)
    around = None if scope is None else scope.get(KEY)
    knows = around is not None
    if around is None:
        around = current.get()
        if around is not None and not around.finished:
            knows = _is_same(getattr(around, "scope", {}), environ)
    if around is None or around.finished:
        return None
    environ[KEY] = Inside(around, knows=knows)
    return environ[KEY]


def find_around(scope: Mapping[str, Any]) -> Any:
    """Return the unfinished recording that an ASGI request is part of, or None. Never raises."""
    recording = scope.get(KEY)
    if recording is None and isinstance(scope.get(WSGI_ENVIRON), MutableMapping):
        recording = find(scope[WSGI_ENVIRON])
        if recording is not None:
            recording = Inside(recording, scope=scope)
    return None if recording is None or recording.finished else recording


def is_counted(around: Any, recorder: Recorder) -> bool:
    """Tell whether a recording, or one around it, counts where a recorder would count."""
    return around.recorder is recorder or any(each.recorder.counts_with(recorder) for each in chain(around))


def hand_on(inner: Recording, around: Any) -> None:
    """Tell the recording around another one what the inner one learnt."""
    if inner.route is not None:
        around.route = inner.route
    if not inner.measured:
        around.measured = False
    for error in inner._errors or ():
        around.note(error)


def drop(recording: Any) -> None:
    """End a request that is not counted, for example a scrape, in the gauge too. Never raises."""
    for each in told(recording):
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
