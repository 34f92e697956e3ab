"""A Flask application without web-prom, behind a middleware."""

from __future__ import annotations

from typing import Any

from flask import Flask

inner = Flask(__name__)


@inner.get("/items/<int:number>")
def item(number: int) -> str:
    return str(number)


@inner.get("/error")
def error() -> str:
    raise RuntimeError("as meant")


class Gate:
    """Answers some requests itself, like a middleware that serves static files."""

    def __init__(self, application: Any) -> None:
        self.application = application

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"].startswith("/static/"):
            start_response("204 No Content", [])
            return []
        return self.application(environ, start_response)


app = Gate(inner)
