"""Connections that wait for a worker: the accept queues of a server's own listening sockets."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from web_prom import family_names
from web_prom.errors import raise_if_exhausted
from web_prom.runtime.sock_diag import Listener, listen_overflows, listeners

_SOCKET = re.compile(r"socket:\[(\d+)\]").fullmatch


# A process can listen at any number of addresses that are not the server's.
_MAX_LISTENERS = 64


class Backlog:
    """The accept queues of the sockets at which a server takes connections for its workers.

    A process has a descriptor of each socket at which it listens. A socket of a worker is the server's in the
    first of these cases that any socket is in:

    - The server has a descriptor of it, too: it has opened the socket before it started the worker. If the
      server is not known, it is the parent of the worker.
    - Another worker of the same server listens at the same address (``SO_REUSEPORT``).
    - It is any socket of a worker: the worker is a server of one process.

    The descriptors are read only when a process or a listening socket came or went, because they are many.

    Safe to share between threads, and to use after a fork.
    """

    def __init__(self) -> None:
        # Processes and listening sockets, and those of the sockets that are the server's.
        self._last: tuple[object, frozenset[int]] = (None, frozenset())
        self._has_listened = False

    def families(self, pids: Iterable[int], *, server: int | None = None) -> list[Metric]:
        """Return the families of the queues. If the system does not show them, there are none.

        At most 64 addresses are shown, the first in their order as text.

        Args:
            pids: The server's workers. Those of another pid namespace (0) are left out, as are those whose
                descriptors this process may not see.
            server: The process id of the server, which is not among the workers; 0 if it cannot be seen;
                None if it is not known. If there is a server, the counter of refused connections is in every
                scrape, even while there are no workers.

        Raises:
            UnreadableError: This process has no free descriptor at this moment.
        """
        ours = self._of(frozenset(pid for pid in pids if pid > 0), server, listeners())
        self._has_listened = self._has_listened or bool(ours)
        # A counter that is missing for a moment, while no worker lives, would look like a reset.
        if server is None and not self._has_listened:
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
        for address in list(dict.fromkeys(each.address for each in ours))[:_MAX_LISTENERS]:
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

    def _of(self, pids: frozenset[int], server: int | None, every: Collection[Listener]) -> list[Listener]:
        if not pids or not every:
            return []
        addresses = {each.inode: each.address for each in every}
        question = (pids, server, frozenset(addresses))
        last_question, ours = self._last
        if question != last_question:
            ours = _server_sockets(pids, server, addresses)
            self._last = question, ours
        return sorted((each for each in every if each.inode in ours), key=lambda each: each.address)


def _server_sockets(pids: Iterable[int], server: int | None, addresses: Mapping[int, str]) -> frozenset[int]:
    """Return the listening sockets of the workers' servers.

    Args:
        pids: The workers.
        server: The process id of their server, or None.
        addresses: The address of each listening socket.
    """
    sockets = {pid: found for pid in pids if (found := _sockets(pid, addresses))}
    workers_by_server: dict[int, list[int]] = {}
    for pid in sockets:
        workers_by_server.setdefault(server or _parent(pid), []).append(pid)
    chosen: set[int] = set()
    for each, workers in workers_by_server.items():
        opened = frozenset[int]().union(*(sockets[pid] for pid in workers))
        shared = Counter(address for pid in workers for address in {addresses[one] for one in sockets[pid]})
        chosen |= (
            opened & _sockets(each, addresses)
            or {one for one in opened if shared[addresses[one]] > 1}
            or opened
        )
    return frozenset(chosen)


def _parent(pid: int) -> int:
    """Return the process id of the parent; 0 if it cannot be seen."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError as error:
        raise_if_exhausted(error)
    except (ValueError, IndexError):
        pass
    return 0


def _sockets(pid: int, wanted: Container[int]) -> frozenset[int]:
    """Return those of the sockets of which the process has a descriptor."""
    found: set[int] = set()
    folder = f"/proc/{pid}/fd"
    try:
        descriptors = os.listdir(folder)
    except OSError as error:  # it has ended, or belongs to another user
        raise_if_exhausted(error)
        return frozenset()
    for descriptor in descriptors:
        try:
            match = _SOCKET(os.readlink(f"{folder}/{descriptor}"))
        except OSError:
            continue
        if match and int(match[1]) in wanted:
            found.add(int(match[1]))
    return frozenset(found)
