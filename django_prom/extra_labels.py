"""Extra labels of asynchronous requests. Some of them must be computed in a thread."""

from __future__ import annotations

import logging

from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_prom.conf import Instrumentation
from web_prom.metrics.recording import Recording

logger = logging.getLogger("web_prom")


async def compute_extra_labels(
    instrumentation: Instrumentation, recording: Recording, request: HttpRequest, response: HttpResponseBase
) -> None:
    """Compute the extra labels of a request in the event loop, or in the request's thread if necessary.

    Django refuses the database in an event loop: ``request.user`` raises SynchronousOnlyOperation there if
    the user is not loaded yet. After the first such error, the labels are computed in the thread in which
    Django runs the synchronous code of the request. Never raises, unless the request is cancelled.
    """
    recorder = instrumentation.recorder
    if not instrumentation.labels_need_thread:
        try:
            recording.compute_extra_labels(request, response, recorder, (SynchronousOnlyOperation,))
        except SynchronousOnlyOperation:
            instrumentation.labels_need_thread = True
            logger.warning(
                "an extra label (%s) of %s uses the database in the event loop (SynchronousOnlyOperation). "
                "From now on PROM_EXTRA_LABELS are computed in a thread, and each request waits for it. To "
                "avoid that, load the values in an asynchronous middleware, for example request.name = "
                "(await request.auser()).username, and let the label read request.name",
                ", ".join(name for name, _ in recorder.extra_labels),
                recorder.owner,
            )
        else:
            return
    try:
        await sync_to_async(recording.compute_extra_labels)(request, response, recorder)
    except Exception:
        recorder.record_internal_error("annotate")
