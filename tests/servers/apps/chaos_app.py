"""The Flask application with few descriptors and a view that takes all of them for a moment."""

from __future__ import annotations

import os
import resource
import time

from tests.servers.apps.flask_app import app

__all__ = ["app"]

# Enough for the server, its connections and the value files, and few enough to take all of them quickly.
_DESCRIPTORS = 96

resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))


@app.get("/exhaust")
def exhaust() -> str:
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
    return str(len(taken))
