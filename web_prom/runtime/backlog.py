"""Connections that wait for a worker: the accept queues of a server's own listening sockets."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from web_prom import family_names
from web_prom.errors import raise_if_exhausted
from web_prom.runtime.sock_diag import Listener, listen_overflows, listeners

_SOCKET = re.compile(r"socket:\[(\d+)\]").fullmatch


class Backlog:
    """The accept queues of the sockets that some processes listen on.

    A process listens on a socket if it has a descriptor of the socket. Forked workers have the descriptors
    of their server. The descriptors are read only when a process or a listening socket came or went,
    because they are many.

    Safe to share between threads, and to use after a fork.
    """

    def __init__(self) -> None:
        # Processes and listening sockets, and those of the sockets that belong to the processes.
        self._last: tuple[object, frozenset[int]] = (None, frozenset())
        self._has_listened = False

    def families(self, pids: Iterable[int], *, has_server: bool = False) -> list[Metric]:
        """Return the families of the queues. If the system does not show them, there are none.

        Args:
            pids: The server's workers. Those of another pid namespace (0) are left out, as are those whose
                descriptors this process may not see.
            has_server: Whether there is a server, even while it has no workers. The counter of refused
                connections is then in every scrape.

        Raises:
            UnreadableError: This process has no free descriptor at this moment.
        """
        ours = self._of(frozenset(pid for pid in pids if pid > 0), listeners())
        self._has_listened = self._has_listened or bool(ours)
        # A counter that is missing for a moment, while no worker lives, would look like a reset.
        if not (has_server or self._has_listened):
            return []
        waiting = GaugeMetricFamily(
            family_names.BACKLOG, "Connections that wait to be accepted by a worker.", labels=["listener"]
        )
        limit = GaugeMetricFamily(
            family_names.BACKLOG_LIMIT,
            "Connections that may wait to be accepted before the kernel refuses more.",
            labels=["listener"],
        )
        found: list[Metric] = [waiting, limit]
        # Several sockets may share an address (SO_REUSEPORT).
        for address in dict.fromkeys(each.address for each in ours):
            here = [each for each in ours if each.address == address]
            waiting.add_metric([address], sum(each.waiting for each in here))
            limits = [each.limit for each in here if each.limit is not None]
            if limits:
                limit.add_metric([address], sum(limits))
        overflows = listen_overflows()
        if overflows is not None:
            found.append(
                CounterMetricFamily(
                    family_names.LISTEN_OVERFLOWS,
                    "TCP connections that the kernel refused because a queue was full, in this "
                    "network namespace.",
                    value=overflows,
                )
            )
        return [family for family in found if family.samples]

    def _of(self, pids: frozenset[int], every: Collection[Listener]) -> list[Listener]:
        if not pids or not every:
            return []
        question = (pids, frozenset(each.inode for each in every))
        last_question, ours = self._last
        if question != last_question:
            ours = _sockets(pids, question[1])
            self._last = question, ours
        return sorted((each for each in every if each.inode in ours), key=lambda each: each.address)


def _sockets(pids: Iterable[int], wanted: frozenset[int]) -> frozenset[int]:
    """Return the sockets of which one of the processes has a descriptor."""
    found: set[int] = set()
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        try:
            descriptors = os.listdir(folder)
        except OSError as error:  # it has ended, or belongs to another user
            raise_if_exhausted(error)
            continue
        for descriptor in descriptors:
            try:
                match = _SOCKET(os.readlink(f"{folder}/{descriptor}"))
            except OSError:
                continue
            if match:
                found.add(int(match[1]))
    return frozenset(found & wanted)
