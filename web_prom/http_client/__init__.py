"""Outgoing HTTP requests of requests, httpx and urllib3: their durations, by method, server and outcome.

The setting ``PROM_HTTP_CLIENT`` measures all sessions of the process. :func:`instrument` measures one.
"""

from web_prom.http_client.activation import instrument, uninstrument

__all__ = ["instrument", "uninstrument"]
