"""Responses to scrapes, and the view of the metrics."""

from __future__ import annotations

from contextlib import nullcontext

from django.http import HttpRequest, HttpResponse

from django_prom import conf
from django_prom.connections import managed_by_django
from django_prom.unmeasured import discard_scrape, is_client_request
from web_prom.metrics.routes import exclude


def exposition_response(request: HttpRequest) -> HttpResponse:
    """Return the project's metrics, or the live page or a file of it, as a response of Django."""
    # Django also knows the scheme under ASGI, and behind a proxy (SECURE_PROXY_SSL_HEADER).
    environ = {**request.META, "wsgi.url_scheme": request.scheme}
    # Under ASGI and in its test client, Django sets wsgi.multiprocess to True without knowing it.
    if "wsgi.input" not in environ or environ.get("SERVER_NAME") == "testserver":
        environ["wsgi.multiprocess"] = None
    live_path = split_live_path(request.path_info) if conf.is_on("live") else None
    if live_path is None:
        status, headers, body = conf.exposition().respond(environ)
    else:
        status, headers, body = conf.live_mount().respond_below(environ, live_path[1])
    code, _, reason = status.partition(" ")
    response = HttpResponse(body, status=int(code), reason=reason)
    del response["Content-Type"]
    for name, value in headers:
        # A mapping of headers cannot have two challenges. One header can contain both.
        response[name] = f"{response[name]}, {value}" if name in response else value
    return response


def answer_in_thread(request: HttpRequest) -> HttpResponse:
    """Answer a scrape in the thread of its request."""
    is_client = is_client_request(request)
    discard_scrape(request)
    with managed_by_django() if is_client else nullcontext():
        return exposition_response(request)


@exclude
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer a scrape. The middleware usually does this before the view is called."""
    return answer_in_thread(request)


@exclude
def live(request: HttpRequest, **_: str) -> HttpResponse:
    """Answer a request of the live page. The middleware usually does this before the view is called."""
    return answer_in_thread(request)


@exclude
def live_file(request: HttpRequest, rest: str) -> HttpResponse:
    """Answer a request of a file of the live page, as :func:`live` does."""
    return answer_in_thread(request)


def split_live_path(path: str) -> tuple[str, str] | None:
    """Return the path at which the live page is mounted, and the rest; None if a path is no path of the page.

    Args:
        path: The path of a request, relative to the script name.
    """
    base = conf.config().live_path
    found = max((each for each in conf.live_mount().paths if path.endswith(each)), key=len, default=None)
    if found is None:
        return None
    rest = found.removeprefix(base)
    return path.removesuffix(rest), rest


live_file.login_required = False  # type: ignore[attr-defined]
live.login_required = False  # type: ignore[attr-defined]
metrics.login_required = False  # type: ignore[attr-defined]  # django.contrib.auth.middleware.LoginRequiredMiddleware
