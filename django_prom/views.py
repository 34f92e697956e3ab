"""A scrape's answer as a Django response."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from django.http import HttpResponse

from django_prom import conf
from django_prom.connections import handled_by_django
from django_prom.unmeasured import is_clients, withdraw
from web_prom.metrics.routes import exclude


def answer(request: Any) -> Any:
    """Return the response to a scrape."""
    environ = request.META
    # Django says "multiprocess" of every ASGI server and of its test client, who never said so.
    if "wsgi.input" not in environ or environ.get("SERVER_NAME") == "testserver":
        environ = {**environ, "wsgi.multiprocess": None}
    status, headers, body = conf.exposition().respond(environ)
    code, _, reason = status.partition(" ")
    response = HttpResponse(body, status=int(code), reason=reason)
    del response["Content-Type"]
    for name, value in headers:
        # A dictionary of headers cannot hold two challenges; one header may.
        response[name] = f"{response[name]}, {value}" if name in response else value
    return response


def answer_in_request(request: Any) -> Any:
    """Return the response to a scrape, in the thread of its request."""
    served = is_clients(request)
    withdraw(request)
    with handled_by_django() if served else nullcontext():
        return answer(request)


@exclude
def metrics(request: Any) -> Any:
    """Answer a scrape, where the middleware does not do so itself."""
    return answer_in_request(request)


metrics.login_required = False  # type: ignore[attr-defined]  # django.contrib.auth.middleware.LoginRequiredMiddleware
