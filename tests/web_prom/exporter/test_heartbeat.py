"""The heartbeat: when a supervisor takes its exporter for a hung process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.web_prom.http_server.serving import RunningServer
from tests.web_prom.http_server.test_server import BlockingRespond
from tests.web_prom.support import Clock
from web_prom.exporter.heartbeat import HeartbeatMonitor, HeartbeatSender
from web_prom.http_server.connections import State


class Heartbeat:
    """Both ends of a heartbeat, with a clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.monitor = HeartbeatMonitor(self.clock)
        self.sender = HeartbeatSender(self.monitor.write_end)

    def is_overdue_after(self, seconds: int) -> bool:
        """Check once a second, and return the last result."""
        for _ in range(seconds):
            self.clock.go(1)
            overdue = self.monitor.is_overdue()
        return overdue


@pytest.fixture
def heartbeat() -> Iterator[Heartbeat]:
    made = Heartbeat()
    yield made
    made.monitor.close()
    os.close(made.monitor.write_end)


def test_fault_74_heartbeat_is_overdue_after_ten_seconds(heartbeat: Heartbeat) -> None:
    heartbeat.sender.send()
    assert not heartbeat.is_overdue_after(10)
    assert heartbeat.is_overdue_after(2)


def test_fault_74_each_heartbeat_restarts_the_timeout(heartbeat: Heartbeat) -> None:
    for _ in range(5):
        heartbeat.sender.send()
        assert not heartbeat.is_overdue_after(9)


def test_fault_74_first_heartbeat_has_a_longer_timeout(heartbeat: Heartbeat) -> None:
    assert not heartbeat.is_overdue_after(59)
    assert heartbeat.is_overdue_after(2)


def test_fault_74_suspended_machine_is_not_a_hung_exporter(heartbeat: Heartbeat) -> None:
    heartbeat.sender.send()
    heartbeat.is_overdue_after(1)
    heartbeat.clock.go(3600)
    assert not heartbeat.monitor.is_overdue()


def test_sender_never_waits_for_its_supervisor(heartbeat: Heartbeat) -> None:
    for _ in range(100_000):
        heartbeat.sender.send()
    HeartbeatSender(None).send()


def test_fault_74_server_is_stuck_when_a_scrape_takes_a_minute() -> None:
    held = BlockingRespond()
    with RunningServer(held) as serving, serving.client() as client:
        assert not serving.server.is_stuck
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        serving.wait_for(client, State.PROCESSING)
        assert not serving.server.is_stuck
        serving.clock.go(61)
        assert serving.server.is_stuck
        held.let.set()
