"""Channels under a real uvicorn: WebSockets and HTTP consumers have their routes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.servers.process import Scratch, wait_until
from tests.servers.test_uvicorn import Uvicorn

pytest.importorskip("channels")

SOCKETS = {
    "/ws/chat/a-b/": "/ws/chat/<str:room>/",
    "/ws/old/5/": "/ws/old/<room>/",
    "/ws/named/": "/rooms/<kind>",
    "/ws/rooms/7/": "/ws/rooms/<int:room>/",
    "/ws/rooms/lobby/first/": "/ws/rooms/lobby/<floor>/",
    "/ws/rooms/a-b/": "/ws/rooms/<slug:name>/",  # of a second router, as the first one has no such route
}


@pytest.fixture
def server(place: Scratch) -> Iterator[Uvicorn]:
    """Return a server of the application."""
    with Uvicorn(place, app="tests.servers.apps.channels_app:application") as running:
        yield running


def test_fault_83_channels_consumers_have_their_routes(server: Uvicorn) -> None:
    """Routes are found behind middlewares, nested routers and ProtocolTypeRouter, and in Django."""
    url = f"ws://127.0.0.1:{server.port}"
    for path in (*SOCKETS, "/ws/hidden/"):
        with connect(f"{url}{path}", origin=f"http://127.0.0.1:{server.port}") as websocket:
            websocket.send("ping")
            text, _ = json.loads(websocket.recv())
            assert text == "ping"
    for path in ("/ws/refusing/", "/ws/nowhere/", "/ws/rooms/a/b/"):
        with pytest.raises(InvalidStatus), connect(f"{url}{path}", origin=f"http://127.0.0.1:{server.port}"):
            pass
    expected = {(route, "1000"): 1 for route in SOCKETS.values()} | {("/ws/refusing/", "_rejected"): 1}
    wait_until(
        lambda: sum(server.connections().values()) == len(expected) + 2, "all to end", shown=server.log
    )
    counted = server.connections()
    assert {key: number for key, number in counted.items() if key[0] != "_unmatched"} == expected
    assert sum(number for key, number in counted.items() if key[0] == "_unmatched") == 2
    name = "websocket_messages"
    assert server.samples(name, f"{name}_total", "route", "direction") == {
        (route, direction): 1 for route in SOCKETS.values() for direction in ("received", "sent")
    }

    assert server.get("/events/a/") == (200, b"events")
    assert server.get("/hello/ann/") == (200, b"hello ann")
    assert server.get("/nowhere/")[0] == 404
    assert server.requests() == {
        ("GET", "/events/<name>/", "200"): 1,
        ("GET", "/hello/<name>/", "200"): 1,
        ("GET", "_unmatched", "404"): 1,
    }
    name = "web_prom_instrumentation_errors"
    assert server.samples(name, f"{name}_total", "stage") == {}
