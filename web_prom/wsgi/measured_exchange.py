"""A WSGI request that also measures bytes and the time to the first byte."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from web_prom.metrics.body_sizes import CountedBody, CountedInput, Measures
from web_prom.types import Environ
from web_prom.wsgi.exchange import Exchange


class MeasuredExchange(Measures, Exchange):
    """An exchange that also measures bytes and the time to the first of them."""

    def prepare(self, environ: Environ) -> None:
        """Also count the bytes of the request body."""
        super().prepare(environ)
        if self.recorder.config.request_size and "wsgi.input" in environ:
            environ["wsgi.input"] = CountedInput(environ["wsgi.input"], self)

    def write(self, data: bytes) -> Any:
        """Also count the chunk."""
        self.count(data)
        return super().write(data)

    def follow(self, body: Any, environ: Environ) -> Iterable[bytes]:
        """Return a body that also counts its chunks."""
        followed = super().follow(body, environ)
        if followed is not body:
            self._body = CountedBody(body, self)
        else:
            self.count_file(self.length)
        return followed
