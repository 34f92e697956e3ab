"""The collector of the metrics of all workers that share a directory."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from prometheus_client.metrics_core import Metric

from web_prom.errors import DirectoryError
from web_prom.multiprocess.directory.slots import slots_of
from web_prom.multiprocess.reading.directory_view import DirectoryView
from web_prom.multiprocess.reading.merged_text import Encoder, FamilyText
from web_prom.posix import require_posix

logger = logging.getLogger("web_prom")

_NO_UNITS: Mapping[str, str] = MappingProxyType({})

Holders = Callable[[], Mapping[int, int]]
"""Returns the slots that are held, with the process ids of their holders."""


class WorkersCollector:
    """Collects the metrics that all workers wrote to a directory.

    A scrape reads only what has changed since the last one. Threads may share it. A forked child parses the
    files again. Use :func:`collector_for` to get one, so that its caches are shared.

    Args:
        path: The directory.
        holders: Returns the slots that are held, with the process ids of their holders. By default these are
            read from the locks in the directory, and live gauges that dead processes left under their process
            ids do not count.
        merging: Whether to merge the files that dead processes left under their process ids. Otherwise
            nothing is written.
    """

    def __init__(self, path: str | Path, holders: Holders | None = None, *, merging: bool = True) -> None:
        self._path = Path(path)
        self._holders = holders or (lambda: slots_of(self._path).presumed_holders())
        self._check_processes = holders is None
        self._merge_dead = holders is None and merging
        self._views: dict[int, DirectoryView] = {}

    def collect(self) -> Iterable[Metric]:
        """Return the merged families. Values of dead workers count too, except live gauges.

        Raises:
            OSError: A file could not be read this time. The result would be less than there is.
        """
        with self._refreshed() as view:
            return view.metrics()

    def render_families(
        self,
        encoder: Encoder,
        content_type: str,
        names: Collection[str] | None = None,
        units: Mapping[str, str] = _NO_UNITS,
    ) -> list[FamilyText]:
        """Return the text of each merged family, in the order of their names.

        The text is what the encoder would write for :meth:`collect`, without the ``# EOF`` of OpenMetrics.

        Args:
            encoder: The encoder of prometheus_client for the content type.
            content_type: The key under which values of the format are cached.
            names: The names of the samples to return. None for all.
            units: The units of families by name. The value files do not contain units.

        Raises:
            OSError: As with :meth:`collect`.
        """
        with self._refreshed() as view:
            return view.family_texts(view.text_format(encoder, content_type), names, units)

    @property
    def series(self) -> int:
        """The number of samples in the last scrape."""
        return self._view().series

    @property
    def files(self) -> int:
        """The number of files with values in the last scrape."""
        return self._view().files

    @property
    def corrupt_files(self) -> int:
        """The number of files that the last scrape left out because they are corrupt."""
        return self._view().corrupt_files

    @property
    def ambiguous_families(self) -> int:
        """The number of families in the last scrape whose samples have different labels."""
        return self._view().ambiguous_families

    @property
    def workers(self) -> dict[int, int]:
        """The slots that were held at the last scrape, with the process ids of their holders."""
        return self._view().workers

    @contextlib.contextmanager
    def _refreshed(self) -> Iterator[DirectoryView]:
        """Refresh the view, and yield it under its lock."""
        view = self._view()
        with view.lock:
            workers = self._holders()
            try:
                view.refresh(workers)
            except OSError:
                raise
            except BaseException:
                # Stopped in the middle (SystemExit, a killed greenlet, no memory).
                view.reset()
                raise
            yield view

    def _view(self) -> DirectoryView:
        # The view of the parent may be locked or in the middle of a scrape at a fork.
        pid = os.getpid()
        view = self._views.get(pid)
        if view is None:
            new = DirectoryView(
                self._path, check_processes=self._check_processes, merge_dead=self._merge_dead
            )
            view = self._views.setdefault(pid, new)
            for other in self._views.keys() - {pid}:
                self._views.pop(other, None)
        return view


_collectors: dict[tuple[str, bool], WorkersCollector] = {}


def collector_for(path: str | Path, *, merging: bool = True) -> WorkersCollector:
    """Return the collector of a directory. It is the same at each call, because it caches the files.

    A directory that does not exist has no metrics until it is created. This is logged at the first call.

    Args:
        path: The directory.
        merging: Whether to merge the files that dead processes left under their process ids, if this process
            has the permissions. Otherwise nothing is written.

    Raises:
        DirectoryError: The path is empty, or this system is not POSIX.
    """
    if not os.fspath(path):  # of an environment variable that is not set; it would be the working directory
        raise DirectoryError("name the directory that the workers share: its path is empty")
    require_posix(f"the directory is {str(path)!r}")
    key = os.path.abspath(path), merging
    collector = _collectors.get(key)
    if collector is None:
        if not os.path.isdir(path):
            logger.warning("the directory %s does not exist: it has no metrics until it is created", key[0])
        collector = _collectors.setdefault(key, WorkersCollector(key[0], merging=merging))
    return collector
