"""The demo as a newcomer runs it: a real process and real servers, which leave nothing at the end."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from types import ModuleType
from typing import Any
from urllib.request import urlopen

import pytest

from tests.examples.conftest import running_demos
from tests.examples.demo_process import PATIENCE_SECONDS, SERVING, Demo
from tests.servers.process import wait_until

# Changes of the demo for tests that look at its processes only: they start faster with one small application.
HELLO = "demo.SHOPS = {'Flask': 'wsgiref.simple_server:demo_app'}; demo_servers.WORKERS = 1"
NO_COMPARISON = f"{HELLO}; demo.compare = lambda *_: None"
# After the comparison more requests, and errors and slow pages as often as other pages.
MORE_TRAFFIC = (
    "import demo_traffic as load; load.MEAN_RATE = 100; load.PERCENTAGES = dict.fromkeys(load.PERCENTAGES, 1)"
)


@pytest.fixture(scope="module")
def demo_module(import_example: Callable[[str], ModuleType]) -> ModuleType:
    """Return the comparison of the demo, for tests without a server."""
    return import_example("demo_comparison")


@pytest.fixture
def agreeing(demo_module: Any) -> tuple[list[Any], Any]:
    """Return the expected answers of the load, and a scrape that agrees with them."""
    answers = [demo_module.Answer(1, hit, hit.status) for hit in demo_module.LOAD for _ in range(hit.times)]
    measured = demo_module.Measured(counts=dict(demo_module.count_sent(answers, 5)), cache_misses=5)
    for answer in answers:
        request = (answer.hit.label, answer.hit.route)
        measured.timed[request] = measured.timed.get(request, 0) + 1
        measured.sums[request] = measured.sums.get(request, 0.0) + answer.hit.seconds + 0.001
    return answers, measured


@dataclass
class WholeRun:
    """A demo with both shops that has served until Ctrl-C.

    Attributes:
        demo: The demo.
        exit_code: Its exit code.
        early_status: The status of Flask's live page before the comparison.
        statuses: The status of each address that was printed after the comparison.
        compared: The requests of Flask's table, by row.
        routes: The routes of Flask's live page during the load after the comparison.
    """

    demo: Demo
    exit_code: int
    early_status: int
    statuses: dict[str, int]
    compared: dict[str, int]
    routes: dict[str, Any]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> WholeRun:
    """Run the demo as `make demo` does, with settings of the user, and with other traffic at the end.

    A shared directory would add up both shops, and the other settings would rename rows.
    """
    folder = tmp_path_factory.mktemp("demo")
    foreign = {
        "PROMETHEUS_MULTIPROC_DIR": str(folder / "shared"),
        "PROM_STATUS_CLASSES": "1",
        "GUNICORN_CMD_ARGS": "-w 1",
        "DJANGO_SETTINGS_MODULE": "elsewhere",
    }
    with running_demos(folder) as run_demo:
        demo = run_demo(MORE_TRAFFIC, **foreign)
        demo.read_until("1. Starting")
        live_page = demo.output.split()[7]
        early_status = status_of(live_page)
        demo.read_until(SERVING)
        demo.read_until("From now on")
        addresses = re.findall(r"http://\S+", demo.output.partition(SERVING)[2])
        statuses = {address: status_of(address) for address in addresses}
        compared = {row: int(sent) for row, (sent, _, _) in demo.tables()["Flask"].items()}

        def grown_routes() -> dict[str, Any] | None:
            found = json.load(urlopen(f"{live_page}snapshot.json", timeout=PATIENCE_SECONDS))
            routes = {
                route["route"]: route for route in found["requests"]["routes"] if route["method"] == "GET"
            }
            return routes if has_grown(routes, compared) else None

        routes = wait_until(grown_routes, "the load to change the live page")
        demo.signal(signal.SIGINT)
        return WholeRun(demo, demo.end(), early_status, statuses, compared, routes)


def status_of(address: str) -> int:
    with urlopen(address, timeout=PATIENCE_SECONDS) as response:
        return int(response.status)


def has_grown(routes: dict[str, Any], compared: dict[str, int]) -> bool:
    """Return whether the live page has more errors, slow requests and repeated queries than were compared."""
    rows = {
        ("/broken", "500"): compared["GET /broken 500"],
        ("/search", "200"): compared["GET /search 200"],
        ("/products/<int:number>", "200"): compared["GET /products/<int:number> 200"],
    }
    # The page has a route as soon as a request of it was counted.
    if not {"/reviews", *(route for route, _ in rows)} <= routes.keys():
        return False
    repeated = routes["/reviews"]["repeated_queries"] > compared["GET /reviews repeated"]
    return repeated and all(
        routes[route]["statuses"].get(status, 0) > number for (route, status), number in rows.items()
    )


def test_demo_agrees_for_both_shops_and_leaves_nothing(whole_run: WholeRun) -> None:
    """The settings of the user change nothing."""
    demo = whole_run.demo
    assert whole_run.exit_code == 0, demo.output
    assert not demo.temporary.with_name("shared").exists()
    tables = demo.tables()
    assert tables.keys() == {"Flask", "Django"}
    for table in tables.values():
        assert all(sent == measured for sent, measured, _ in table.values()), demo.output
        assert table["- http_requests_in_progress"][:2] == ("0", "0")
        assert table["GET _unmatched 404"][:2] == ("40", "40")
        assert table["GET /broken RuntimeError"][:2] == ("6", "6")
        assert float(table["GET /report 200"][2]) >= 300
    assert max(map(len, demo.output.splitlines())) <= 80


def test_demo_ends_at_ctrl_c(whole_run: WholeRun) -> None:
    """Ctrl-C reaches the whole process group. The printed addresses answer before it."""
    assert len(whole_run.statuses) == 4
    assert set(whole_run.statuses.values()) == {200}
    assert whole_run.exit_code == 0, whole_run.demo.output


def test_demo_prints_the_live_pages_first_and_goes_on_to_send_requests(whole_run: WholeRun) -> None:
    """The load after the comparison adds errors, slow requests and repeated queries to the live page."""
    assert whole_run.demo.output.startswith("The live page of each shop:\n   Flask   http://127.0.0.1:")
    assert whole_run.early_status == 200
    assert has_grown(whole_run.routes, whole_run.compared)


def test_demo_detects_workers_without_a_shared_directory(
    run_demo: Callable[..., Demo], tmp_path: Path
) -> None:
    """Without web-prom's hooks a scrape shows one worker of two: exit code 1, and the rows are named."""
    plain = tmp_path / "plain.py"
    # Both workers are ready at once. A worker that starts late could leave all requests to the other one.
    plain.write_text("preload_app = True\n")
    change = (
        f"demo.SHOPS.pop('Django'); demo_comparison.SETTLE_SECONDS = 0; demo_servers.CONFIG = {str(plain)!r}"
    )
    demo = run_demo(change, DEMO_SECONDS="0")
    assert demo.end() == 1
    assert re.search(r"^! GET +/ +200 +60 +\d+", demo.output, re.MULTILINE), demo.output
    assert re.search(r"These do not agree:\n(.+\n)*  Flask: GET / 200: 60 sent, \d+ measured", demo.output)


@pytest.mark.parametrize(("seconds", "serves"), [("0", False), ("0.1", True)])
def test_demo_ends_after_the_given_seconds(run_demo: Callable[..., Demo], seconds: str, serves: bool) -> None:
    """With DEMO_SECONDS=n it serves for n seconds after the comparison."""
    demo = run_demo(NO_COMPARISON, DEMO_SECONDS=seconds)
    assert demo.end() == 0
    assert (SERVING in demo.output) is serves


def test_demo_shows_the_live_page_to_this_machine_only(import_example: Callable[[str], ModuleType]) -> None:
    """The page is closed to other networks. It needs no password, so its address can be clicked."""
    assert import_example("demo_servers").LIVE == {"PROM_LIVE": "1", "PROM_ALLOWED_NETWORKS": "127.0.0.1"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("step", ["1. Starting", "2. Sending"])
def test_demo_ends_at_a_signal_before_the_comparison(
    run_demo: Callable[..., Demo], step: str, number: signal.Signals
) -> None:
    """Nothing was compared: exit code 1, no traceback, and no process left."""
    demo = run_demo(HELLO)
    demo.read_until(step)
    demo.signal(number)
    assert demo.end() == 1
    assert "Stopped before there was anything to compare." in demo.output


def test_demo_shows_the_log_of_an_application_that_cannot_start(run_demo: Callable[..., Demo]) -> None:
    """The reason is in gunicorn's log, which is removed with the demo's directory."""
    demo = run_demo(f"{HELLO}; demo.SHOPS['Django'] = 'no_such_shop:app'", DEMO_SECONDS="0")
    assert demo.end() == 1
    assert "The Django server ended by itself" in demo.output
    assert "No module named 'no_such_shop'" in demo.output


def test_demo_reports_a_server_that_dies(run_demo: Callable[..., Demo]) -> None:
    """The server is killed and cannot end its workers, so the demo ends them."""
    demo = run_demo(NO_COMPARISON)
    demo.read_until(SERVING)
    (master,) = demo.masters()
    os.kill(master, signal.SIGKILL)
    assert demo.end() == 1
    assert "The Flask server ended by itself, with exit code -9." in demo.output


@pytest.mark.parametrize("given", ["soon", "-1", "nan", ""])
def test_demo_rejects_seconds_that_are_not_a_number(
    import_example: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """The message names the variable, its value, and the allowed values."""
    monkeypatch.setenv("DEMO_SECONDS", given)
    with pytest.raises(import_example("demo_servers").DemoError) as raised:
        import_example("demo").demonstrate(with_prometheus=False, stop=Event())
    assert str(raised.value) == (
        f"DEMO_SECONDS is {given!r}; allowed: a number of seconds, for example 0 or 60"
    )


def test_demo_prints_why_it_cannot_start(run_demo: Callable[..., Demo]) -> None:
    """It starts nothing."""
    demo = run_demo(DEMO_SECONDS="soon")
    assert demo.end() == 1
    assert demo.output.startswith("\nDEMO_SECONDS is 'soon'; allowed: ")


def test_demo_ends_without_traceback_when_its_output_is_closed(run_demo: Callable[..., Demo]) -> None:
    """As in `make demo | head -1`."""
    demo = run_demo(HELLO)
    demo.read_until("1. Starting")
    assert demo.process.stdout is not None
    demo.process.stdout.close()
    assert demo.end() == 1


def test_equal_counts_are_no_difference(demo_module: Any, agreeing: tuple[list[Any], Any]) -> None:
    """The tests below change these counts, which agree at first."""
    assert list(demo_module.differences(*agreeing)) == []


def _lose_a_request(_answers: list[Any], measured: Any) -> None:
    measured.counts["GET", "/search", "200"] -= 1


def _count_a_path(_answers: list[Any], measured: Any) -> None:
    measured.counts["GET", "/wp-1/login.php", "404"] = 1


def _lose_the_exceptions(_answers: list[Any], measured: Any) -> None:
    del measured.counts["GET", "/broken", "RuntimeError"]


def _leave_one_in_progress(_answers: list[Any], measured: Any) -> None:
    measured.counts["", "http_requests_in_progress", ""] = 1


def _lose_the_gauge(_answers: list[Any], measured: Any) -> None:
    del measured.counts["", "http_requests_in_progress", ""]


def _lose_an_order(_answers: list[Any], measured: Any) -> None:
    measured.counts["", "shop_orders_total", "card"] -= 1


def _time_twice(_answers: list[Any], measured: Any) -> None:
    measured.timed["GET", "/broken"] += 1


def _stop_the_clock_before_the_stream(_answers: list[Any], measured: Any) -> None:
    measured.sums["GET", "/report"] = 0.0001


def _break_a_page(answers: list[Any], measured: Any) -> None:
    place = next(place for place, answer in enumerate(answers) if answer.hit.route == "/search")
    answers[place] = replace(answers[place], status=500)
    measured.counts["GET", "/search", "200"] -= 1
    measured.counts["GET", "/search", "500"] = 1


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_lose_a_request, "GET /search 200: 4 sent, 3 measured"),
        (_count_a_path, "GET /wp-1/login.php 404: 0 sent, 1 measured"),
        (_lose_the_exceptions, "GET /broken RuntimeError: 6 sent, none measured"),
        (_leave_one_in_progress, "http_requests_in_progress: 0 sent, 1 measured"),
        (_lose_the_gauge, "http_requests_in_progress: 0 sent, none measured"),
        (_lose_an_order, "shop_orders_total card: 16 sent, 15 measured"),
        (_time_twice, "GET /broken: 6 sent, 7 timed"),
        (_stop_the_clock_before_the_stream, "GET /report takes 0.3 s at least, but 0.000025 s were measured"),
        (_break_a_page, "GET /search was answered 500 1 times, where 200 is right"),
    ],
)
def test_difference_is_reported(
    demo_module: Any, agreeing: tuple[list[Any], Any], spoil: Callable[[list[Any], Any], None], told: str
) -> None:
    """Each difference is named, and nothing else."""
    spoil(*agreeing)
    assert list(demo_module.differences(*agreeing)) == [told]
