"""A scrape's answer as a Django response."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse

from django_prom import conf
from django_prom.unmeasured import withdraw
from web_prom.exclusion import exclude


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


@exclude
def metrics(request: Any) -> Any:
    """Answer a scrape, where the middleware does not do so itself."""
    withdraw(request)
    return answer(request)


metrics.login_required = False  # type: ignore[attr-defined]  # django.contrib.auth.middleware.LoginRequiredMiddleware
