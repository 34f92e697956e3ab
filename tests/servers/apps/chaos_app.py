"""The application without a framework, with few descriptors and a view that takes them all for a moment."""

from __future__ import annotations

import os
import resource
import time

from tests.servers.apps.wsgi_app import READ, VIEWS, Answer, Environ, app

__all__ = ["app"]

# Enough for the server, its connections and the value files, and few enough to take all of them quickly.
_DESCRIPTORS = 96

resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))


def exhaust(environ: Environ) -> Answer:
    """Take all free descriptors for a twentieth of a second."""
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        time.sleep(0.05)
    finally:
        for number in taken:
            os.close(number)
    return "200 OK", [str(len(taken)).encode()]


VIEWS["/exhaust"] = READ, exhaust
