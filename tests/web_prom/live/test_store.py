"""Where snapshots are kept: in one process, and in the directory that workers share."""

from __future__ import annotations

import gc
import json
import os
import weakref
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from web_prom.advice.scrapes import Window
from web_prom.errors import SnapshotError
from web_prom.live import source as source_module
from web_prom.live.history import KEPT_SECONDS, MAX_TREND_ROUTES, History
from web_prom.live.keeper import HistoryKeeper
from web_prom.live.snapshot import SnapshotReader
from web_prom.live.source import SnapshotSource
from web_prom.live.store import SharedStore
from web_prom.multiprocess.directory import shared_interval
from web_prom.multiprocess.directory.live_files import LiveFiles, is_live_file

START = 1_700_000_000.0

TEXT = (
    "# TYPE http_request_duration_seconds histogram\n"
    'http_request_duration_seconds_bucket{{method="GET",route="/",le="+Inf"}} {0}\n'
    'http_request_duration_seconds_sum{{method="GET",route="/"}} 1\n'
    'http_requests_total{{method="GET",route="/",status="200"}} {0}\n'
)


class Clock:
    """The time of the modules, and of the files that they write."""

    def __init__(self) -> None:
        self.now = START

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the clock of the stores, and of the times of files."""
    made = Clock()
    utime = os.utime
    create = shared_interval._create
    monkeypatch.setattr("time.time", made.time)

    def create_now(path: Path) -> bool:
        created = create(path)
        if created and path.exists():
            utime(path, (made.now, made.now))
        return created

    monkeypatch.setattr(shared_interval, "_create", create_now)
    monkeypatch.setattr(os, "utime", lambda path, *_: utime(path, (made.now, made.now)))
    replace = os.replace

    def replace_now(old: Any, new: Any) -> None:
        replace(old, new)
        utime(new, (made.now, made.now))

    monkeypatch.setattr(os, "replace", replace_now)
    return made


class Service:
    """A service whose counter grows with each scrape."""

    def __init__(self) -> None:
        self.scrapes = 0
        self.error: Exception | None = None

    def __call__(self) -> bytes:
        self.scrapes += 1
        if self.error is not None:
            raise self.error
        return TEXT.format(self.scrapes).encode()


def make(service: Callable[[], bytes], directory: Path | None = None) -> SnapshotSource:
    return SnapshotSource(
        service, "shop", lambda _: [], find_directory=lambda: str(directory) if directory else None
    )


def points(source: SnapshotSource) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(source.history_json())["points"]
    return found


def test_source_takes_one_snapshot_in_an_interval(clock: Clock) -> None:
    service = Service()
    source = make(service)
    assert source.snapshot() == source.snapshot()
    assert service.scrapes == 1
    clock.now += 4.1
    assert source.snapshot()["requests"]["routes"][0]["statuses"] == {"200": 2}


def test_source_repeats_an_error_for_an_interval(clock: Clock) -> None:
    """A target that hangs is asked once, however many look."""
    service = Service()
    service.error = SnapshotError("down")
    source = make(service)
    for _ in range(3):
        with pytest.raises(SnapshotError, match="down"):
            source.snapshot()
    assert service.scrapes == 1
    clock.now += 5
    service.error = None
    source.snapshot()


def test_history_has_a_point_every_five_seconds_for_fifteen_minutes(clock: Clock) -> None:
    source = make(Service())
    for _ in range(1000):
        source.keep_history()
        clock.now += 1
    kept = points(source)
    assert len(kept) == 180
    assert {later["time"] - one["time"] for one, later in pairwise(kept)} == {5.0}
    assert kept[-1]["statuses"]["2xx"] > kept[0]["statuses"]["2xx"]
    document = json.loads(source.history_json())
    assert 14 <= len(document["tables"]) <= 15
    assert [len(route["counts"]) for route in document["routes"]] == [180]


def test_history_begins_again_if_the_clock_is_set_back(clock: Clock) -> None:
    source = make(Service())
    source.keep_history()
    clock.now -= 3600
    source.keep_history()
    assert [point["time"] for point in points(source)] == [START - 3600]


def test_history_keeps_few_routes(clock: Clock) -> None:
    text = "".join(
        f'http_requests_total{{method="GET",route="/{number}",status="200"}} 1\n'
        f"# TYPE http_request_duration_seconds histogram\n"
        f'http_request_duration_seconds_bucket{{method="GET",route="/{number}",le="+Inf"}} 1\n'
        for number in range(MAX_TREND_ROUTES + 9)
    )
    snapshot = SnapshotReader("shop", 5).read(text.encode(), START)
    assert len(json.loads(History().entry(snapshot).trends)) == MAX_TREND_ROUTES


def test_shared_history_is_the_same_in_all_workers(clock: Clock, tmp_path: Path) -> None:
    """One worker takes the snapshots, and all of them show these."""
    services = [Service(), Service(), Service()]
    sources = [make(service, tmp_path) for service in services]
    for _ in range(100):
        for source in sources:
            source.keep_history()
        clock.now += 1
    assert [service.scrapes for service in services] == [20, 0, 0]
    assert len({source.history_json() for source in sources}) == 1
    assert len({source.snapshot_json() for source in sources}) == 1
    assert len(points(sources[2])) == 20
    assert [service.scrapes for service in services] == [20, 0, 0]


def test_shared_history_goes_on_after_its_worker_died(clock: Clock, tmp_path: Path) -> None:
    first, second = make(Service(), tmp_path), make(Service(), tmp_path)
    first.keep_history()
    for _ in range(30):
        second.keep_history()
        clock.now += 1
    times = [point["time"] - START for point in points(make(Service(), tmp_path))]
    assert times == [0, 8, 13, 18, 23, 28]


def test_shared_history_is_bounded_on_disk(clock: Clock, tmp_path: Path) -> None:
    source = make(Service(), tmp_path)
    late = make(Service(), tmp_path)
    sizes = []
    for _ in range(400):
        source.keep_history()
        clock.now += 5
        sizes.append((tmp_path / "live_page.history").read_bytes().count(b"\n"))
        late.history_json()
    assert max(sizes) <= 362
    assert late.history_json() == source.history_json()
    assert len(points(late)) == 180


def test_shared_history_survives_a_broken_line(clock: Clock, tmp_path: Path) -> None:
    source = make(Service(), tmp_path)
    source.keep_history()
    with (tmp_path / "live_page.history").open("ab") as file:
        file.write(b'{"point": {"ti\nnull\n{}\n{"point"')
    other = make(Service(), tmp_path)
    assert len(points(other)) == 1


def test_shared_store_goes_on_without_its_directory(clock: Clock, tmp_path: Path, caplog: Any) -> None:
    """Each worker then takes its own snapshots."""
    directory = tmp_path / "gone"
    service = Service()
    source = make(service, directory)
    assert source.snapshot()["title"] == "shop"
    source.keep_history()
    assert "cannot be written" in caplog.text
    assert points(source) == []


def test_shared_files_are_private_and_belong_to_the_directory(clock: Clock, tmp_path: Path) -> None:
    make(Service(), tmp_path).keep_history()
    files = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if is_live_file(path.name)}
    assert files == {"live_page.history": 0o600, "live_page.snapshot": 0o600}
    assert not any(path.name.endswith(".db") for path in tmp_path.iterdir())


def test_new_lines_returns_each_line_once(tmp_path: Path) -> None:
    writer, reader = LiveFiles(tmp_path), LiveFiles(tmp_path)
    assert reader.new_lines() == ([], False)
    writer.add_line(b"1")
    writer.add_line(b"2")
    assert reader.new_lines() == ([b"1", b"2"], True)
    writer.add_line(b"3")
    assert reader.new_lines() == ([b"3"], False)
    assert reader.new_lines() == ([], False)
    writer.replace_lines([b"3"])
    assert reader.new_lines() == ([b"3"], True)


def test_source_moves_to_the_directory_when_values_become_shared(clock: Clock, tmp_path: Path) -> None:
    found: list[str | None] = [None]
    source = SnapshotSource(Service(), "shop", lambda _: [], find_directory=lambda: found[0])
    source.snapshot()
    found[0] = str(tmp_path)
    source.snapshot()
    assert isinstance(source._store, SharedStore)
    assert (tmp_path / "live_page.snapshot").exists()


def test_source_compares_with_a_scrape_of_half_a_minute_ago(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows: list[float] = []

    def keep(window: Window) -> list[Any]:
        windows.append(round(window.seconds))
        return []

    monkeypatch.setattr(source_module, "verdicts", keep)
    source = make(Service())
    for _ in range(10):
        source.keep_history()
        clock.now += 5
    assert windows == [0, 5, 10, 15, 20, 25, 30, 30, 30, 30]


def test_keeper_logs_an_error_once_and_goes_on(caplog: Any) -> None:
    class Failing:
        def keep_history(self) -> None:
            raise ValueError("no metrics")

    keeper = HistoryKeeper(Failing())  # type: ignore[arg-type]
    keeper._keep()
    keeper._keep()
    assert caplog.text.count("no snapshot for the live page: no metrics") == 1


def test_keeper_takes_snapshots_until_it_is_stopped() -> None:
    service = Service()
    keeper = HistoryKeeper(make(service))
    keeper.start()
    keeper.start()
    try:
        while not service.scrapes:
            pass
    finally:
        keeper.stop()


def test_keeper_that_is_gone_ends_its_thread() -> None:
    service = Service()
    keeper = HistoryKeeper(make(service))
    keeper.start()
    thread, gone = keeper._thread, weakref.ref(keeper._source)
    while not service.scrapes:
        pass
    del keeper
    while gone() is not None:  # the thread may take a snapshot now
        gc.collect()
    while thread._stopping is not None:
        pass
    while not thread._ended.acquire(timeout=1):
        pass


def test_kept_seconds_are_what_the_page_shows() -> None:
    assert KEPT_SECONDS == 900


def test_snapshots_keep_few_objects_for_the_garbage_collector(clock: Clock) -> None:
    """A full collection visits them all while no other thread runs."""
    routes = 500
    scrapes = iter(range(1000))

    def service() -> bytes:
        count = next(scrapes)
        lines = ["# TYPE http_request_duration_seconds histogram"]
        for number in range(routes):
            labels = f'method="GET",route="/{number}"'
            lines += [
                f'http_request_duration_seconds_bucket{{{labels},le="{le}"}} {count}'
                for le in ("0.1", "1.0", "+Inf")
            ]
            lines.append(f"http_request_duration_seconds_sum{{{labels}}} {count}")
            lines.append(f'http_requests_total{{{labels},status="200"}} {count}')
        return "\n".join([*lines, ""]).encode()

    gc.collect()
    before = {id(each) for each in gc.get_objects()}
    source = make(service)
    for _ in range(100):
        source.keep_history()
        clock.now += 5
    gc.collect()
    assert sum(id(each) not in before for each in gc.get_objects()) < routes
