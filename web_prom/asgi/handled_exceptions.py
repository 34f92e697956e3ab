"""The exception that an application answers with a server error."""

from __future__ import annotations

import sys
from types import FrameType

# In these modules a layer calls its application.
_LAYERS = frozenset({"web_prom.asgi.middleware", "web_prom.asgi.inner_layer"})
_CALLS = frozenset({"__call__", "serve"})


def answered_exception() -> BaseException | None:
    """Return the exception that is handled now, or None. Call it while the response starts.

    Frameworks send the response to an exception inside the ``except`` that caught it. A middleware may also
    call its application there. This exception is not the one that the application answers, so it is not
    returned if there is a layer between the middleware and the response.
    """
    error = sys.exc_info()[1]
    traceback = None if error is None else error.__traceback__
    if traceback is None:
        return error
    handler = traceback.tb_frame  # the last frame that the exception has reached
    frame: FrameType | None = sys._getframe(1)
    is_outside = False
    while frame is not None:
        if frame is handler:
            return None if is_outside else error
        is_outside = is_outside or (
            frame.f_code.co_name in _CALLS and frame.f_globals.get("__name__") in _LAYERS
        )
        frame = frame.f_back
    return error
