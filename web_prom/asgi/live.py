"""The live page as an ASGI application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY

from web_prom.asgi.endpoint import MetricsApp
from web_prom.exposition.encoding.encoder import MetricSource
from web_prom.exposition.http import Response
from web_prom.metrics.routes import exclude
from web_prom.types import ASGIApp

if TYPE_CHECKING:
    from web_prom.config.settings import Config


def make_live_app(
    registry: MetricSource = REGISTRY,
    *,
    config: Config | None = None,
    public: bool = False,
    title: str = "an ASGI application",
) -> ASGIApp:
    """Return an ASGI application that shows the live page, to be mounted at any path.

    As :func:`web_prom.wsgi.make_live_app`. It answers in a thread, not in the event loop.

    Args:
        registry: The registry whose metrics are shown.
        config: The settings; by default those in the environment. They say who may see the page.
        public: Show the page to every client if no access control is set. Otherwise the answer is then 403.
            Set it only if the program that mounts the page restricts access itself.
        title: What the page calls the service.

    Raises:
        ConfigError: A setting in the environment is not allowed.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR names a directory that cannot be used.
    """
    from web_prom.live.mount import standalone_mount

    mount = standalone_mount(registry, config, public=public, title=title)

    class _Page:
        """Answers the requests of the page."""

        def respond(self, environ: Mapping[str, Any]) -> Response:
            return mount.respond_below(environ, environ["PATH_INFO"])

    return exclude(MetricsApp(_Page()))
