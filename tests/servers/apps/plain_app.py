"""The part of flask_app.py that a comparison needs, without web-prom."""

from __future__ import annotations

import os

from flask import Flask, Response, send_file

app = Flask(__name__)


@app.get("/")
def index() -> str:
    return str(os.getpid())


@app.get("/file")
def file() -> Response:
    return send_file(os.environ["BIG_FILE"])
