"""The sections of a snapshot about the server: workers, listening sockets, queue time and event loops."""

from __future__ import annotations

from typing import Any

from web_prom.live.families import Families, by_label, one_histogram

_WORKER_VALUES = {
    "cpu_seconds": "process_cpu_seconds_total",
    "resident_bytes": "process_resident_memory_bytes",
    "start_time": "process_start_time_seconds",
    "open_fds": "process_open_fds",
    "capacity": "http_server_worker_capacity",
}


def server_sections(families: Families, requests: float | None) -> dict[str, Any]:
    """Return the sections ``workers``, ``server``, ``queue_time`` and ``event_loop``.

    Args:
        families: The families of the scrape.
        requests: The requests that the service finished; None if no request was measured.
    """
    waiting = by_label(families.samples("http_server_backlog"), "listener")
    limits = by_label(families.samples("http_server_backlog_limit"), "listener")
    return {
        "queue_time": one_histogram(*families.histograms("http_request_queue_seconds")),
        "workers": _workers(families, requests),
        "server": {
            "listeners": [
                {"listener": listener, "waiting": value, "limit": limits.get(listener)}
                for listener, value in sorted(waiting.items())
            ],
            "listen_overflows": families.total("http_server_listen_overflows_total"),
        },
        "event_loop": one_histogram(*families.histograms("asyncio_loop_lag_seconds"))
        or one_histogram(*families.histograms("gevent_hub_lag_seconds")),
    }


def _workers(families: Families, requests: float | None) -> list[dict[str, Any]]:
    """Return a row for each process. A service of one process has no label ``worker`` on some families."""
    values = {member: by_label(families.samples(name), "worker") for member, name in _WORKER_VALUES.items()}
    workers = sorted(
        {worker for found in values.values() for worker in found}, key=lambda each: (len(each), each)
    )
    if "" in workers and len(workers) == 2:
        # The capacity of the only process has a label, and its other values have none.
        only = workers[1]
        for found in values.values():
            if "" in found:
                found.setdefault(only, found.pop(""))
        workers = [only]
    # Value files that workers share also have the sums of earlier workers, without the sum at which the
    # present worker began.
    is_one_process = len(workers) == 1 and families.find("web_prom_workers") is None
    return [
        {
            "worker": worker,
            **{member: found.get(worker) for member, found in values.items()},
            "requests": requests if is_one_process else None,
        }
        for worker in workers
    ]
