"""The live page as a WSGI application."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY

from web_prom.exposition.encoding.encoder import MetricSource
from web_prom.metrics.layers import discard, find_outer
from web_prom.types import Environ, StartResponse, WSGIApp

if TYPE_CHECKING:
    from web_prom.config.settings import Config


def make_live_app(
    registry: MetricSource = REGISTRY,
    *,
    config: Config | None = None,
    public: bool = False,
    title: str = "a WSGI application",
) -> WSGIApp:
    """Return a WSGI application that shows the live page, to be mounted at any path.

    The page shows all workers that share a directory. A middleware around it neither counts its requests
    nor shows them as in progress. The history begins with the first request of each process.

    Args:
        registry: The registry whose metrics are shown.
        config: The settings; by default those in the environment. They say who may see the page.
        public: Show the page to everybody if the settings restrict nobody. Otherwise the answer is then 403.
            Set it only if the program that mounts the page restricts access itself.
        title: What the page calls the service.

    Raises:
        ConfigError: A setting in the environment is not allowed.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR names a directory that cannot be used.
    """
    from web_prom.live.mount import standalone_mount

    mount = standalone_mount(registry, config, public=public, title=title)

    def answer(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        discard(find_outer(environ))
        status, headers, body = mount.respond_below(environ, environ.get("PATH_INFO", ""))
        start_response(status, headers)
        return [body]

    return answer
