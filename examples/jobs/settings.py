"""The address of the broker and the port of the metrics, from the environment."""

import os

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
METRICS_PORT = int(os.environ.get("METRICS_PORT", "9464"))
