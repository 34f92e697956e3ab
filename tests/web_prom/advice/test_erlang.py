"""Erlang's C formula against tables, and against a simulation."""

from __future__ import annotations

import heapq
import math
import random

import pytest

from web_prom.advice.erlang import mean_wait, servers_for, wait_probability


@pytest.mark.parametrize(
    ("servers", "load", "probability"),
    [
        # One server: the probability is the utilisation. Others by the textbook formula with factorials.
        (1, 0.5, 0.5),
        (1, 0.9, 0.9),
        (2, 1.0, 1 / 3),
        (3, 2.0, 4 / 9),
        (5, 4.0, 0.554113),
        (10, 8.0, 0.409180),
        (1, 1.0, 1.0),
        (4, 9.0, 1.0),
        (4, 0.0, 0.0),
    ],
)
def test_wait_probability_equals_the_tables(servers: int, load: float, probability: float) -> None:
    assert wait_probability(servers, load) == pytest.approx(probability, rel=1e-4)


@pytest.mark.parametrize("servers", [1, 2, 7, 50, 170])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_wait_probability_equals_the_formula(servers: int, share: float) -> None:
    load = servers * share
    terms = [math.exp(busy * math.log(load) - math.lgamma(busy + 1)) for busy in range(servers)]
    last = math.exp(servers * math.log(load) - math.lgamma(servers + 1)) * servers / (servers - load)
    assert wait_probability(servers, load) == pytest.approx(last / (sum(terms) + last), rel=1e-9)


def test_mean_wait_is_infinite_under_full_load() -> None:
    assert mean_wait(4, 4.0, 0.1) == math.inf
    assert mean_wait(4, 5.0, 0.1) == math.inf


@pytest.mark.slow
@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (2, 1.5), (4, 3.0)])
def test_mean_wait_equals_a_simulation(servers: int, load: float) -> None:
    rng = random.Random(servers)
    service, requests = 0.2, 200_000
    free = [0.0] * servers
    now = waited = 0.0
    for _ in range(requests):
        now += rng.expovariate(load / service)
        begin = max(now, heapq.heappop(free))
        waited += begin - now
        heapq.heappush(free, begin + rng.expovariate(1 / service))
    assert mean_wait(servers, load, service) == pytest.approx(waited / requests, rel=0.1)


def test_servers_for_gives_the_fewest() -> None:
    for load in (0.3, 1.0, 3.7, 40.0):
        servers = servers_for(load, 1.0, 0.1)
        assert servers is not None
        assert mean_wait(servers, load, 1.0) <= 0.1 < mean_wait(servers - 1, load, 1.0)


def test_servers_for_gives_none_where_no_number_would_do() -> None:
    assert servers_for(1e9, 1.0, 0.1) is None
