"""The pipe by which a supervisor sees that its exporter hangs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.web_prom.http_server.serving import Serving
from tests.web_prom.http_server.test_server import Held
from tests.web_prom.support import Clock
from web_prom.exporter.heartbeat import Heart, Pulse
from web_prom.http_server.connections import State


class Life:
    """An exporter and its supervisor, with a clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.pulse = Pulse(self.clock)
        self.heart = Heart(self.pulse.heart)

    def is_missing(self, seconds: int) -> bool:
        """Look once a second, and return what the last look found."""
        for _ in range(seconds):
            self.clock.go(1)
            missing = self.pulse.is_missing()
        return missing


@pytest.fixture
def life() -> Iterator[Life]:
    made = Life()
    yield made
    made.pulse.close()
    os.close(made.pulse.heart)


def test_fault_74_an_exporter_that_shows_nothing_for_ten_seconds_hangs(life: Life) -> None:
    life.heart.beat()
    assert not life.is_missing(10)
    assert life.is_missing(2)


def test_fault_74_a_sign_is_enough(life: Life) -> None:
    for _ in range(5):
        life.heart.beat()
        assert not life.is_missing(9)


def test_fault_74_a_start_may_take_longer(life: Life) -> None:
    assert not life.is_missing(59)
    assert life.is_missing(2)


def test_fault_74_a_machine_that_was_suspended_is_no_hung_exporter(life: Life) -> None:
    life.heart.beat()
    life.is_missing(1)
    life.clock.go(3600)
    assert not life.pulse.is_missing()


def test_a_heart_whose_supervisor_does_not_read_never_waits(life: Life) -> None:
    for _ in range(100_000):
        life.heart.beat()
    Heart(None).beat()


def test_fault_74_a_server_is_stuck_when_a_scrape_takes_a_minute() -> None:
    held = Held()
    with Serving(held) as serving, serving.client() as client:
        assert not serving.server.is_stuck
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        serving.wait_for(client, State.PROCESSING)
        assert not serving.server.is_stuck
        serving.clock.go(61)
        assert serving.server.is_stuck
        held.let.set()
