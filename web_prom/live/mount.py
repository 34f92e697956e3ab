"""The live page at its path in an application: what the middlewares, Django and the exporter use."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from web_prom.config.settings import Config
from web_prom.exposition.encoding.encoder import MetricSource
from web_prom.exposition.http import Exposition, Response
from web_prom.live.access import ScrapeAccess
from web_prom.live.app import LiveApp
from web_prom.live.assets import assets, assets_hash
from web_prom.live.checks import SetUp, SetUpChecks
from web_prom.live.keeper import HistoryKeeper
from web_prom.live.source import SnapshotSource
from web_prom.multiprocess.directory.environment import DIR_VARIABLE
from web_prom.multiprocess.worker_detection import has_sibling_workers
from web_prom.multiprocess.writing.activation import is_shared, share_values

Key = TypeVar("Key")


def _never() -> bool:
    return False


def _shared_directory() -> str | None:
    """Return the directory that this process shares with other workers, if it does."""
    return os.environ.get(DIR_VARIABLE) if is_shared() else None


def live_paths(base: str) -> tuple[str, ...]:
    """Return all paths at which the page answers: ``/live``, ``/live/``, ``/live/snapshot.json`` and so on.

    Args:
        base: The setting ``live_path``.
    """
    files = [f"assets/{assets_hash()}/{name}" for name in assets()]
    return (base, *(f"{base}/{name}" for name in ("", "snapshot.json", "history.json", "session", *files)))


class LiveMount:
    """Answers scrapes, and the requests of the live page at its own path.

    It takes the place of the exposition of an application, so that a request of the page takes the way of a
    scrape: it is not counted, it is not in progress, and in an event loop it is answered in a thread. Safe to
    share between threads, and after a fork.

    Args:
        exposition: Answers the scrapes.
        config: The settings.
        title: What the page calls the service.
        is_debug: Returns whether the application is debugged. Then everybody may see the page if everybody
            may scrape.
        directory: The directory that an exporter reads. By default the page is about this process, and about
            all workers that share a directory with it.

    Attributes:
        paths: All paths of the page.
        app: Answers the requests of the page.
        keeper: Keeps the history once it is started.
    """

    def __init__(
        self,
        exposition: Exposition,
        config: Config,
        title: str,
        *,
        is_debug: Callable[[], bool] = _never,
        directory: str | None = None,
    ) -> None:
        self._exposition = exposition
        self._base = config.live_path
        self.paths = frozenset(live_paths(self._base))
        exporter = directory is not None

        def set_up() -> SetUp:
            return SetUp(
                is_shared() or exporter,
                _never if exporter else has_sibling_workers,
                exposition.access.is_open and not config.client_cafile,
            )

        source = SnapshotSource(
            exposition.text,
            title,
            SetUpChecks(set_up),
            find_directory=(lambda: None) if exporter else _shared_directory,
        )
        access = ScrapeAccess(exposition.access, lambda: bool(config.client_cafile) or is_debug())
        self.app = LiveApp(source, access)
        self.keeper = HistoryKeeper(source)

    def respond(self, environ: Mapping[str, Any]) -> Response:
        """Answer a scrape or a request of the page. Never raises."""
        path = environ.get("PATH_INFO", "")
        return self.respond_at(environ, path) if path in self.paths else self._exposition.respond(environ)

    def respond_at(self, environ: Mapping[str, Any], path: str) -> Response:
        """Answer a request of the page at a path that begins with the page's own one."""
        return self.respond_below(environ, path.removeprefix(self._base))

    def respond_below(self, environ: Mapping[str, Any], rest: str) -> Response:
        """Answer a request of the page at a path below the page's own one: "", "/" or the name of a file."""
        self.keeper.start()
        return self.app.respond(environ, rest)

    def is_inside(self, path: str) -> bool:
        """Return whether a path is that of the page, or below it."""
        return path == self._base or path.startswith(f"{self._base}/")

    def starting(self, function: Callable[[Any], Key]) -> Callable[[Any], Key]:
        """Return a function that does the same as another one, and starts the history.

        Args:
            function: What is called in each request.
        """
        start = self.keeper.start

        def start_and_call(request: Any) -> Key:
            start()
            return function(request)

        return start_and_call


def standalone_mount(registry: MetricSource, config: Config | None, *, public: bool, title: str) -> LiveMount:
    """Return the mount of a page that a program mounts without a middleware of this package.

    Args:
        registry: The registry whose metrics are shown.
        config: The settings; by default those in the environment.
        public: Whether every client may see the page if no access control is set.
        title: What the page calls the service.

    Raises:
        ConfigError: A setting in the environment is not allowed.
        DirectoryError: PROMETHEUS_MULTIPROC_DIR names a directory that cannot be used.
    """
    share_values(*[registry] if isinstance(registry, CollectorRegistry) else [])
    config = config or Config.load(environ=os.environ)
    return LiveMount(Exposition(registry, config), config, title, is_debug=lambda: public)
