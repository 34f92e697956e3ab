"""A shop's queue, worked off by Celery or RQ and measured by web-prom: workers without a web server."""
