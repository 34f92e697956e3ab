"""Erlang's C formula: how long requests wait for one of several servers.

It assumes arrivals at random, service times at random and one queue (A. K. Erlang, 1917). Real requests
differ, so every number that comes of it is an estimate.
"""

from __future__ import annotations

# More servers than this are not searched for: the estimate has no value there.
MAX_SERVERS = 10_000


def wait_probability(servers: int, load: float) -> float:
    """Return the probability that a request has to wait.

    Args:
        servers: How many requests are served at once.
        load: The mean number of requests in service, arrivals per second times seconds of service (Erlang).

    Returns:
        1.0 where the load is as much as the servers can do, or more.
    """
    if load <= 0:
        return 0.0
    if servers <= load:
        return 1.0
    # The recursion of Erlang B does not overflow, unlike powers and factorials.
    blocked = 1.0
    for busy in range(1, servers + 1):
        blocked = load * blocked / (busy + load * blocked)
    return blocked / (1.0 - load / servers * (1.0 - blocked))


def mean_wait(servers: int, load: float, service_seconds: float) -> float:
    """Return the mean wait of all requests in seconds; infinite under full load.

    Requests that do not wait count as zero.
    """
    if servers <= load:
        return float("inf")
    return wait_probability(servers, load) * service_seconds / (servers - load)


def servers_for(load: float, service_seconds: float, most_wait: float) -> int | None:
    """Return the fewest servers that keep the mean wait below a limit, or None where there are none."""
    servers = max(1, int(load) + 1)
    while servers <= MAX_SERVERS:
        if mean_wait(servers, load, service_seconds) <= most_wait:
            return servers
        servers += 1
    return None
