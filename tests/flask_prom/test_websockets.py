"""WebSockets in Flask applications."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Response, request

from flask_prom import FlaskProm
from tests.flask_prom.conftest import MakeApp, Metrics

UPGRADE = {"HTTP_UPGRADE": "websocket", "HTTP_CONNECTION": "Upgrade"}


class TakenOver(Response):
    """The response of Flask-Sock: the WebSocket has ended before the response is called."""

    def __call__(self, *_: Any) -> Any:
        raise StopIteration


@pytest.mark.parametrize("excluded", [False, True])
def test_fault_37_websocket_has_its_route_after_the_request_context_ended(
    make_app: MakeApp, metrics: Metrics, excluded: bool
) -> None:
    app = make_app()

    @app.route("/rooms/<int:number>", websocket=True)
    def room(number: int) -> Response:
        return TakenOver()

    if excluded:
        app.view_functions["room"] = FlaskProm.exclude(room)
    with pytest.raises(StopIteration):
        app.test_client().get("/rooms/1", environ_overrides=UPGRADE)
    found = metrics.by_labels("websocket_connections_total", "route", "code")
    assert found == ({} if excluded else {("/rooms/<int:number>", "_unknown"): 1})
    assert metrics.requests == {}
    assert metrics.exceptions == {}
    assert metrics.in_progress == 0
    assert metrics("websocket_connections_in_progress") == 0


def test_fault_37_exception_of_a_view_is_counted_for_an_upgrade(make_app: MakeApp, metrics: Metrics) -> None:
    app = make_app()

    @app.route("/fails")
    def fails() -> str:
        raise ConnectionError

    only = {"HTTP_UPGRADE": "websocket"}  # Flask's router answers 400 to a request that has both headers
    assert app.test_client().get("/fails", environ_overrides=only).status_code == 500
    assert metrics.requests == {("GET", "/fails", "500"): 1}
    assert metrics.exceptions == {("GET", "/fails", "ConnectionError"): 1}
    assert metrics("websocket_connections_in_progress") == 0


@pytest.mark.parametrize("own", [False, True])
def test_fault_37_extra_labels_of_a_websocket_are_computed(
    make_app: MakeApp, metrics: Metrics, own: bool
) -> None:
    """They are computed from the request."""
    app = make_app(extra_labels={"host": lambda request, response: request.host})

    @app.route("/ws", websocket=True)
    def room() -> Response:
        if own:
            request.environ["web_prom.recording"].accept()
        return TakenOver()

    with pytest.raises(StopIteration):
        app.test_client().get("/ws", environ_overrides=UPGRADE)
    assert metrics.by_labels("websocket_connections_total", "route", "host") == {("/ws", "localhost"): 1}
