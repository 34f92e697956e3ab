"""An application that sets the shared directory only after the import of prometheus_client."""

from __future__ import annotations

import os

from flask import Flask
from prometheus_client import Counter

from flask_prom import FlaskProm

VISITS = Counter("shop_visits_total", "Visits.")

os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ["NAMED_LATE"]

app = Flask(__name__)
FlaskProm(app)


@app.get("/")
def index() -> str:
    VISITS.inc()
    return str(os.getpid())
