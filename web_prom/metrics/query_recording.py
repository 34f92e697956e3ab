"""Recordings that also count the queries of their request."""

from __future__ import annotations

from typing import Any, TypeVar

from web_prom.metrics.layers import with_outer
from web_prom.metrics.query_tally import QueryTally, open_tally
from web_prom.metrics.recorder import Recorder
from web_prom.metrics.recording import Recording

RecordingType = TypeVar("RecordingType", bound=Recording)


class QueryRecording(Recording):
    """A recording with a tally. It is used where ``PROM_DATABASE`` is on: see :func:`with_queries`.

    The writer of the request writes the tally. If no writer does, for example for an excluded route, the
    queries are counted under the route ``_none``. So the counters by route add up to all queries.

    Attributes:
        tally: The queries of the request.
    """

    tally: QueryTally

    def __init__(self, recorder: Recorder, *args: Any, **options: Any) -> None:
        super().__init__(recorder, *args, **options)
        self.tally = open_tally(recorder.database)

    def finish(self, ended: float | None = None) -> None:
        """Observe the request and its queries, once. Further calls do nothing. Never raises.

        Args:
            ended: ``perf_counter()`` at the end of the request, if that is not now.
        """
        if self.finished:
            return
        if self.outer is not None:
            self._add_to_outer()
        super().finish(ended)
        if not self.tally.closed:
            totals = self.tally.close()
            if totals is not None and self.recorder.database is not None:
                self.recorder.database.count_outside(totals)

    def _add_to_outer(self) -> None:
        """Add the queries to the recording of the same request in the next layer with another registry."""
        for recording in with_outer(self.outer):
            outer = getattr(recording, "tally", None)
            if outer is not None:
                outer.add_totals(self.tally.totals())
                return


_classes: dict[type[Recording], Any] = {}


def with_queries(kind: type[RecordingType]) -> type[RecordingType]:
    """Return a subclass of a class of recordings that is also a :class:`QueryRecording`."""
    if kind not in _classes:
        _classes[kind] = type(
            f"{kind.__name__}WithQueries", (QueryRecording, kind), {"__doc__": kind.__doc__}
        )
    return _classes[kind]  # type: ignore[no-any-return]
