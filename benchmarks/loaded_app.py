"""The application of the load test: its views wait or compute for as long as their path says."""

from __future__ import annotations

import time

from flask import Flask

from flask_prom import FlaskProm

app = Flask(__name__)
FlaskProm(app)


@app.get("/wait/<int:microseconds>")
def wait(microseconds: int) -> str:
    """Wait, as a view does that asks a database."""
    time.sleep(microseconds / 1e6)
    return "waited"


@app.get("/compute/<int:microseconds>")
def compute(microseconds: int) -> str:
    """Compute for so much CPU time."""
    until = time.thread_time() + microseconds / 1e6
    while time.thread_time() < until:
        pass
    return "computed"
