"""How pytest-xdist shares out the tests to its workers."""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadGroupScheduling


class Scheduling(LoadGroupScheduling):  # type: ignore[misc]
    """Shares out groups of tests, and drops those that a worker has finished.

    Otherwise xdist counts all tests of a worker each time one of them ends. For thousands of tests, that
    takes several seconds of processor time.
    """

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Record that a worker has completed a test."""
        units = self.assigned_work[node]
        for scope in [scope for scope, unit in units.items() if all(unit.values())]:
            del units[scope]
        super().mark_test_complete(node, item_index, duration)
