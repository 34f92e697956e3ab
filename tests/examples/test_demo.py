"""The demo as a newcomer runs it: a real process and real servers, which leave nothing at the end."""

from __future__ import annotations

import importlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MARK = "WEB_PROM_TEST_DEMO"
# How long the demo may take on a busy machine.
PATIENCE_SECONDS = 180.0
SERVING = "Both are still serving."


class Demo:
    """The demo as a process group of its own, whose descendants can be found by a mark in their environment.

    Args:
        folder: A directory of the test's own.
        change: Statements that change the modules ``demo``, ``demo_load`` and ``demo_servers`` first.
        **environ: Variables that the demo is given.
    """

    def __init__(self, folder: Path, change: str = "", **environ: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._mark = uuid4().hex
        self.output = ""
        script = EXAMPLES / "demo.py"
        if change:
            script = folder / "changed.py"
            script.write_text(
                f"import sys\nsys.path.insert(0, {str(EXAMPLES)!r})\n"
                f"import demo, demo_load, demo_servers\n{change}\nsys.exit(demo.main())\n"
            )
        inherited = {name: value for name, value in os.environ.items() if name != "DEMO_SECONDS"}
        self._errors = folder / "stderr"
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(script)],
                env={**inherited, "TMPDIR": str(self.temporary), MARK: self._mark, **environ},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )

    def read_until(self, text: str) -> None:
        """Read the output up to a line that contains ``text``."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return
        pytest.fail(f"the demo ended without {text!r}:\n{self.output}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def end(self) -> int:
        """Wait for the end and return the exit code; fail if it leaves anything behind, or a traceback."""
        assert self.process.stdout is not None
        if not self.process.stdout.closed:
            self.output += self.process.communicate(timeout=PATIENCE_SECONDS)[0]
        self.process.wait(PATIENCE_SECONDS)
        assert self._errors.read_text() == ""
        assert self.descendants() == []
        assert list(self.temporary.iterdir()) == []
        for port in re.findall(r"http://127\.0\.0\.1:(\d+)", self.output):
            with socket.create_server(("127.0.0.1", int(port))):
                pass
        return self.process.returncode

    def descendants(self) -> list[int]:
        """Return the ids of the demo's processes without the demo itself."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                marked = f"{MARK}={self._mark}".encode() in path.read_bytes().split(b"\0")
            except OSError:
                continue  # it has ended, or is somebody else's
            if marked and int(path.parent.name) != self.process.pid:
                found.append(int(path.parent.name))
        return sorted(found)

    def masters(self) -> list[int]:
        """Return the ids of the gunicorn masters: the demo's own children."""
        return [pid for pid in self.descendants() if f"PPid:\t{self.process.pid}\n" in _status(pid)]

    def tables(self) -> dict[str, dict[str, tuple[str, str, str]]]:
        """Return each shop's table: requests sent, requests measured and their mean, by row."""
        tables: dict[str, dict[str, tuple[str, str, str]]] = {}
        for block in self.output.split("\n\n"):
            name, *lines = block.splitlines()
            if lines and lines[0].lstrip().startswith("method"):
                tables[name] = {
                    " ".join(line[:54].split()): (line[54:60].strip(), line[60:70].strip(), line[70:].strip())
                    for line in lines[1:]
                }
        return tables


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


@pytest.fixture
def run_demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Return a function that starts a demo; its processes are killed at the end of the test."""
    started: list[Demo] = []

    def run(change: str = "", **environ: str) -> Demo:
        started.append(Demo(tmp_path, change, **environ))
        return started[-1]

    yield run
    for demo in started:
        for pid in demo.descendants():
            os.kill(pid, signal.SIGKILL)
        demo.process.kill()
        demo.process.wait()
        if demo.process.stdout is not None:
            demo.process.stdout.close()


@pytest.fixture(scope="module")
def demo_module() -> Iterator[Any]:
    """Return the demo as a module, for tests without a server."""
    before = set(sys.modules)
    sys.path.insert(0, str(EXAMPLES))
    try:
        yield importlib.import_module("demo")
    finally:
        sys.path.remove(str(EXAMPLES))
        for name in set(sys.modules) - before:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(EXAMPLES)):
                del sys.modules[name]


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


def test_demo_agrees_for_both_shops_and_leaves_nothing(run_demo: Callable[..., Demo]) -> None:
    """Run the demo as `DEMO_SECONDS=0 make demo` does."""
    demo = run_demo(DEMO_SECONDS="0")
    assert demo.end() == 0, demo.output
    tables = demo.tables()
    assert tables.keys() == {"Flask", "Django"}
    for table in tables.values():
        assert all(sent == measured for sent, measured, _ in table.values()), demo.output
        assert table["- http_requests_in_progress"][:2] == ("0", "0")
        assert table["GET _unmatched 404"][:2] == ("40", "40")
        assert table["GET /broken RuntimeError"][:2] == ("6", "6")
        assert float(table["GET /report 200"][2]) >= 300
    assert max(map(len, demo.output.splitlines())) <= 80


def test_demo_ignores_the_users_settings(run_demo: Callable[..., Demo], tmp_path: Path) -> None:
    """A shared directory would add up both shops, and other settings would rename rows."""
    shared = tmp_path / "shared"
    foreign = {
        "PROMETHEUS_MULTIPROC_DIR": str(shared),
        "PROM_STATUS_CLASSES": "1",
        "GUNICORN_CMD_ARGS": "-w 1",
    }
    demo = run_demo(DEMO_SECONDS="0", DJANGO_SETTINGS_MODULE="elsewhere", **foreign)
    assert demo.end() == 0, demo.output
    assert not shared.exists()


def test_demo_detects_workers_without_a_shared_directory(
    run_demo: Callable[..., Demo], tmp_path: Path
) -> None:
    """Without web-prom's hooks a scrape shows one worker of two: exit code 1, and the rows are named."""
    plain = tmp_path / "plain.py"
    plain.touch()
    change = f"demo.SHOPS.pop('Django'); demo.SETTLE_SECONDS = 0; demo_servers.CONFIG = {str(plain)!r}"
    demo = run_demo(change, DEMO_SECONDS="0")
    assert demo.end() == 1
    assert re.search(r"^! GET +/ +200 +60 +\d+", demo.output, re.MULTILINE), demo.output
    assert re.search(r"These do not agree:\n(.+\n)*  Flask: GET / 200: 60 sent, \d+ measured", demo.output)


def test_demo_ends_after_the_given_seconds(run_demo: Callable[..., Demo]) -> None:
    """With DEMO_SECONDS=n it serves for n seconds after the comparison."""
    demo = run_demo("demo.SHOPS.pop('Django')", DEMO_SECONDS="0.1")
    assert demo.end() == 0
    assert SERVING in demo.output


def test_demo_ends_at_ctrl_c(run_demo: Callable[..., Demo]) -> None:
    """Ctrl-C reaches the whole process group. The printed addresses answer before it."""
    demo = run_demo()
    demo.read_until(SERVING)
    demo.read_until("Django")
    for url in re.findall(r"http://\S+", demo.output.partition(SERVING)[2]):
        with urlopen(url, timeout=PATIENCE_SECONDS) as response:
            assert response.status == 200
    demo.signal(signal.SIGINT)
    assert demo.end() == 0, demo.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("step", ["1. Starting", "2. Sending"])
def test_demo_ends_at_a_signal_before_the_comparison(
    run_demo: Callable[..., Demo], step: str, number: signal.Signals
) -> None:
    """Nothing was compared: exit code 1, no traceback, and no process left."""
    demo = run_demo("demo.SHOPS.pop('Django')")
    demo.read_until(step)
    demo.signal(number)
    assert demo.end() == 1
    assert "Stopped before there was anything to compare." in demo.output


def test_demo_shows_the_log_of_an_application_that_cannot_start(run_demo: Callable[..., Demo]) -> None:
    """The reason is in gunicorn's log, which is removed with the demo's directory."""
    demo = run_demo("demo.SHOPS['Django'] = 'no_such_shop:app'", DEMO_SECONDS="0")
    assert demo.end() == 1
    assert "The Django server ended by itself" in demo.output
    assert "No module named 'no_such_shop'" in demo.output


def test_demo_reports_a_server_that_dies(run_demo: Callable[..., Demo]) -> None:
    """The server is killed and cannot end its workers, so the demo ends them."""
    demo = run_demo("demo.SHOPS.pop('Django')")
    demo.read_until(SERVING)
    (master,) = demo.masters()
    os.kill(master, signal.SIGKILL)
    assert demo.end() == 1
    assert "The Flask server ended by itself, with exit code -9." in demo.output


@pytest.mark.parametrize("given", ["soon", "-1", "nan", ""])
def test_demo_rejects_seconds_that_are_not_a_number(run_demo: Callable[..., Demo], given: str) -> None:
    """The message names the variable, its value, and the allowed values."""
    demo = run_demo(DEMO_SECONDS=given)
    assert demo.end() == 1
    assert (
        demo.output.strip() == f"DEMO_SECONDS is {given!r}; allowed: a number of seconds, for example 0 or 60"
    )


def test_demo_ends_without_traceback_when_its_output_is_closed(run_demo: Callable[..., Demo]) -> None:
    """As in `make demo | head -1`."""
    demo = run_demo("demo.SHOPS.pop('Django')")
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
