"""The attributes of Django requests that only the naming ``django-prometheus`` has labels for."""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from web_prom.hooks import ExtraLabel


def _view(request: HttpRequest, _response: HttpResponseBase) -> str:
    match = request.resolver_match
    return (match and match.view_name) or ""


def _transport(request: HttpRequest, _response: HttpResponseBase) -> str:
    return "https" if request.is_secure() else "http"


def _ajax(request: HttpRequest, _response: HttpResponseBase) -> str:
    return "1" if request.META.get("HTTP_X_REQUESTED_WITH") == "XMLHttpRequest" else ""


def _template_name(_request: HttpRequest, response: HttpResponseBase) -> str:
    return str(response.template_name) if hasattr(response, "template_name") else ""


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
