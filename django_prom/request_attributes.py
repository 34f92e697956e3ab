"""The attributes of Django requests that only the naming ``django-prometheus`` has labels for."""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from web_prom.hooks import ExtraLabel
from web_prom.metrics.labels import UNNAMED_TEMPLATE


def _view(request: HttpRequest, _response: HttpResponseBase) -> str:
    match = request.resolver_match
    return (match and match.view_name) or ""


def _transport(request: HttpRequest, _response: HttpResponseBase) -> str:
    return "https" if request.is_secure() else "http"


def _ajax(request: HttpRequest, _response: HttpResponseBase) -> str:
    return "1" if request.META.get("HTTP_X_REQUESTED_WITH") == "XMLHttpRequest" else ""


def _template_name(_request: HttpRequest, response: HttpResponseBase) -> str:
    return str(_named(response.template_name)) if hasattr(response, "template_name") else ""


def _named(template: object) -> object:
    """Replace template objects by their names. The text of an object is different in each request."""
    if template is None or isinstance(template, str):
        return template
    if isinstance(template, list | tuple):
        names = map(_named, template)
        return tuple(names) if isinstance(template, tuple) else list(names)
    # The object of a backend contains that of the engine.
    name = getattr(getattr(template, "template", template), "name", None)
    return name if isinstance(name, str) else UNNAMED_TEMPLATE


def _charset(_request: HttpRequest, response: HttpResponseBase) -> str:
    return str(response.charset)


def _streaming(_request: HttpRequest, response: HttpResponseBase) -> str:
    return "1" if response.streaming else ""


ATTRIBUTE_GETTERS: Mapping[str, ExtraLabel] = {
    "view": _view,
    "transport": _transport,
    "ajax": _ajax,
    "templatename": _template_name,
    "charset": _charset,
    "streaming": _streaming,
}
"""The functions by attribute. Each returns an empty string if a request has no value."""
