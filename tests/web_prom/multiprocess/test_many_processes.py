"""Scrapes of several real processes, and shared values that are activated after the import."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.parser import text_string_to_metric_families

from tests.web_prom.support import python
from web_prom.errors import DirectoryError
from web_prom.multiprocess.reading.collector import WorkersCollector
from web_prom.multiprocess.writing.activation import is_shared, share_values

pytestmark = pytest.mark.slow

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# The beginning of every program in this file.
PRELUDE = """
import gc, json, logging, os, sys
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Summary
from tests.web_prom.support import Server, environ_of, hello, serve
from web_prom.wsgi import PrometheusMiddleware, set_route

def app(environ, start_response):
    set_route(environ, environ["PATH_INFO"])
    return hello(environ, start_response)

def scrape(application, **environ):
    server = Server()
    body = server.run(application, environ_of("/metrics", **environ))
    assert server.status == "200 OK", server.status
    return body.decode()

def in_child(work):
    pid = os.fork()
    if not pid:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
"""


def run(code: str, *arguments: str, **environ: str) -> str:
    return python(PRELUDE + code, *arguments, **{"PROM_ZERO_ERRORS": "false", **environ})


class Scrape:
    """The samples of a scrape by name and labels, for example ``x_total{a="b"}``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        self.values = {name: float(value) for name, _, value in (line.rpartition(" ") for line in self.lines)}
        assert len(self.values) == len(self.lines), "a sample exists twice"
        assert list(text_string_to_metric_families(text))

    def __getitem__(self, line: str) -> float | None:
        return self.values.get(line)


def test_scrape_adds_the_values_of_all_processes(tmp_path: Path) -> None:
    """Three forked processes have ended. The answering process has values too."""
    text = run(
        """
orders = Counter("shop_orders", "Orders.", ["site"])
amount = Histogram("shop_amount", "Amount.", buckets=(1, 2))
baskets = Gauge("shop_baskets", "Baskets.", multiprocess_mode="sum")
rendering = Summary("shop_rendering", "Rendering.")
wrapped = PrometheusMiddleware(app, registry=REGISTRY, response_size=True)

def work():
    for number in range(10):
        serve(wrapped, "/a" if number % 2 else "/b")
    orders.labels("north").inc(2)
    amount.observe(1.5)
    baskets.inc(3)
    rendering.observe(7)

for _ in range(3):
    in_child(work)
work()
print(scrape(wrapped))
        """,
        **{VARIABLE: str(tmp_path)},
    )
    scrape = Scrape(text)
    assert scrape['http_requests_total{method="GET",route="/a",status="200"}'] == 20
    assert scrape['http_requests_total{method="GET",route="/b",status="200"}'] == 20
    assert scrape['http_request_duration_seconds_count{method="GET",route="/a"}'] == 20
    assert scrape['http_request_duration_seconds_bucket{le="+Inf",method="GET",route="/a"}'] == 20
    assert scrape['http_response_size_bytes_sum{method="GET",route="/b"}'] == 100
    assert scrape["http_requests_in_progress"] == 0
    assert scrape['shop_orders_total{site="north"}'] == 8
    assert scrape['shop_amount_bucket{le="2.0"}'] == scrape["shop_amount_count"] == 4
    assert scrape["shop_baskets"] == 12
    assert scrape["shop_rendering_sum"] == 28
    in_files = "web_prom_storage_errors_total"  # the other web_prom_ metrics describe the scrape
    merged = [line for line in scrape.lines if line.startswith(in_files) or not line.startswith("web_prom_")]
    assert scrape["web_prom_scrape_series"] == len(merged)
    assert "_created" not in text


def test_fault_24_name_parameter_filters_a_merged_scrape(tmp_path: Path) -> None:
    found = json.loads(
        run(
            """
wrapped = PrometheusMiddleware(app)
in_child(lambda: serve(wrapped, "/a"))
serve(wrapped, "/a")
queries = ["", "name[]=http_requests_total", "name[]=no_such_metric",
           "name[]=http_requests_in_progress&name[]=no_such_metric",
           "name[]=http_request_duration_seconds_count"]
print(json.dumps([scrape(wrapped, QUERY_STRING=query) for query in queries]))
            """,
            **{VARIABLE: str(tmp_path)},
        )
    )
    lines = [[line for line in text.splitlines() if not line.startswith("#")] for text in found]
    assert len(lines[0]) > 10
    assert lines[1] == ['http_requests_total{method="GET",route="/a",status="200"} 2.0']
    assert lines[2] == []
    assert lines[3] == ["http_requests_in_progress 0.0"]
    assert lines[4] == ['http_request_duration_seconds_count{method="GET",route="/a"} 2.0']


def test_fault_15_no_warning_for_several_workers_with_a_shared_directory(tmp_path: Path) -> None:
    printed = run(
        """
logging.basicConfig(stream=sys.stdout)
scrape(PrometheusMiddleware(app), **{"wsgi.multiprocess": True})
        """,
        **{VARIABLE: str(tmp_path)},
    )
    assert printed == ""


def test_merged_scrape_is_sent_in_the_negotiated_format(tmp_path: Path) -> None:
    text = run(
        """
wrapped = PrometheusMiddleware(app)
serve(wrapped, "/a")
print(scrape(wrapped, HTTP_ACCEPT="application/openmetrics-text"))
        """,
        **{VARIABLE: str(tmp_path)},
    )
    assert text.endswith("# EOF\n\n")
    assert "# TYPE http_requests counter\n" in text


# Activation after the import -------------------------------------------------------------------------


def test_fault_16_values_before_the_variable_was_set_are_kept(
    tmp_path: Path,
) -> None:
    """All four types, with and without labels, in several registries, including the metrics of web-prom."""
    text = run(
        """
other = CollectorRegistry()
x = ["x"]
counters = [Counter("a", "Help."), Counter("b", "Help.", x, registry=other).labels("1")]
gauges = [Gauge("c", "Help.", multiprocess_mode="sum"),
          Gauge("d", "Help.", x, multiprocess_mode="max").labels("1")]
recent = Gauge("r", "Help.", multiprocess_mode="mostrecent")
every = Gauge("v", "Help.")
histograms = [Histogram("e", "Help.", buckets=(1, 2)),
              Histogram("f", "Help.", ["x"], buckets=(1, 2)).labels("1")]
summaries = [Summary("g", "Help."), Summary("h", "Help.", ["x"]).labels("1")]
untouched = Counter("u", "Help.", ["x"])
early = PrometheusMiddleware(app)
elsewhere = PrometheusMiddleware(app, registry=other, namespace="other")

def use(times):
    for _ in range(times):
        for counter in counters: counter.inc(2)
        for gauge in gauges: gauge.inc(3)
        for observer in histograms + summaries: observer.observe(1.5)
        serve(early, "/early")
        serve(elsewhere, "/elsewhere")

use(2)
recent.set(42)
every.set(7)
in_flight = early(environ_of("/flight"), Server().start_response)

os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
late = PrometheusMiddleware(app)
assert REGISTRY.get_sample_value("http_requests_in_progress") == 1
in_flight.close()
assert REGISTRY.get_sample_value("http_requests_in_progress") == 0
use(1)
in_child(lambda: use(1))
serve(late, "/late")
PrometheusMiddleware(app)
print(scrape(late))
        """,
        str(tmp_path),
    )
    scrape = Scrape(text)
    assert scrape["a_total"] == scrape['b_total{x="1"}'] == 8
    assert scrape["c"] == 12
    assert scrape['d{x="1"}'] == 9, "the maximum of 9 and 3"
    assert scrape["r"] == 42
    # The forked child never set this gauge.
    assert [value for line, value in scrape.values.items() if line.startswith("v{pid=")] == [7]
    for name, labels in (("e", ""), ("f", 'x="1"')):
        inside = f",{labels}" if labels else ""
        around = f"{{{labels}}}" if labels else ""
        assert scrape[f'{name}_bucket{{le="1.0"{inside}}}'] == 0
        assert scrape[f'{name}_bucket{{le="2.0"{inside}}}'] == scrape[f"{name}_count{around}"] == 4
        assert scrape[f"{name}_sum{around}"] == 6
    for name, around in (("g", ""), ("h", '{x="1"}')):
        assert scrape[f"{name}_count{around}"] == 4
        assert scrape[f"{name}_sum{around}"] == 6
    assert not [line for line in scrape.lines if line.startswith("u")]
    assert scrape['http_requests_total{method="GET",route="/early",status="200"}'] == 4, (
        "2 before, 1 after, 1 forked"
    )
    assert scrape['http_requests_total{method="GET",route="/flight",status="200"}'] == 1
    assert scrape['http_requests_total{method="GET",route="/late",status="200"}'] == 1
    assert scrape['http_request_duration_seconds_count{method="GET",route="/early"}'] == 4
    assert scrape["http_requests_in_progress"] == 0
    assert scrape['other_http_requests_total{method="GET",route="/elsewhere",status="200"}'] == 4
    assert scrape["other_http_requests_in_progress"] == 0


def test_fault_16_values_of_optional_metrics_are_kept(tmp_path: Path) -> None:
    text = run(
        """
options = dict(request_size=True, response_size=True, first_byte=True, queue_time=True,
               constant_labels={"site": "a"}, max_label_sets=2)
early = PrometheusMiddleware(app, **options)
for path in ("/1", "/2", "/3"):
    serve(early, path)
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
late = PrometheusMiddleware(app, **options)
for path in ("/1", "/3", "/4"):
    serve(early, path)
print(scrape(early))
        """,
        str(tmp_path),
    )
    scrape = Scrape(text)
    requests = {
        line: value for line, value in scrape.values.items() if line.startswith("http_requests_total")
    }
    assert requests == {
        'http_requests_total{method="GET",route="/1",site="a",status="200"}': 2,
        'http_requests_total{method="GET",route="/2",site="a",status="200"}': 1,
        'http_requests_total{method="GET",route="_overflow",site="a",status="200"}': 3,
    }
    assert scrape['http_response_size_bytes_sum{method="GET",route="/1",site="a"}'] == 10
    assert scrape['http_response_first_byte_seconds_count{method="GET",route="_overflow",site="a"}'] == 3
    assert scrape['web_prom_label_overflow_total{family="http_requests"}'] == 3


def test_fault_16_values_of_metrics_in_another_registry_are_kept(
    tmp_path: Path,
) -> None:
    text = run(
        """
orders = Counter("shop_orders", "Orders.")
orders.inc(3)
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
wrapped = PrometheusMiddleware(app, registry=CollectorRegistry())
orders.inc()
print(scrape(wrapped))
        """,
        str(tmp_path),
    )
    assert Scrape(text)["shop_orders_total"] == 4


def test_fault_16_values_are_kept_if_a_second_application_is_refused(
    tmp_path: Path,
) -> None:
    text = run(
        """
early = PrometheusMiddleware(app)
serve(early, "/a")
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
try:
    PrometheusMiddleware(app, duration_buckets="1,2")
except ValueError:
    serve(early, "/a")
print(scrape(early))
        """,
        str(tmp_path),
    )
    scrape = Scrape(text)
    assert scrape['http_requests_total{method="GET",route="/a",status="200"}'] == 2
    assert scrape["http_requests_in_progress"] == 0


def test_values_are_not_shared_without_the_variable(
    monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry
) -> None:
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv(VARIABLE, raising=False)
        else:
            monkeypatch.setenv(VARIABLE, value)
        assert not share_values(registry)
        assert not is_shared()


# Unusable directories --------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "/below"])
def test_share_values_raises_for_an_unusable_directory(
    below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv(VARIABLE, f"{tmp_path}/file{below}")
    with pytest.raises(DirectoryError, match=VARIABLE):
        share_values(registry)
    assert not is_shared()


def test_middleware_raises_for_an_unusable_directory_that_was_set_before_the_import(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    printed = run(
        """
from web_prom import DirectoryError
try:
    PrometheusMiddleware(app)
except DirectoryError as error:
    print(error)
        """,
        **{VARIABLE: f"{tmp_path}/file/below"},
    )
    assert VARIABLE in printed
    assert "name a directory that all workers can write" in printed


@pytest.mark.parametrize("when", ["before", "after"])
def test_missing_directory_is_created(when: str, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    code = f"""
os.environ["{VARIABLE}"] = sys.argv[1]
wrapped = PrometheusMiddleware(app)
serve(wrapped, "/a")
print(scrape(wrapped))
    """
    text = run(code, str(path), **({VARIABLE: str(path)} if when == "before" else {}))
    assert Scrape(text)['http_requests_total{method="GET",route="/a",status="200"}'] == 1
    assert list(path.glob("counter_*.db"))


# Reading ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the files of two processes that have ended."""
    path = tmp_path_factory.mktemp("files")
    run(
        """
wrapped = PrometheusMiddleware(app)
everything = Gauge("every", "Help.", ["a"])
def work():
    serve(wrapped, "/a")
    everything.labels("x").set(1)
in_child(work)
in_child(work)
        """,
        **{VARIABLE: str(path)},
    )
    return path


def copied(files: Path, to: Path) -> Path:
    for path in files.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def upstream_families(files: Path) -> Any:
    collector: Any = MultiProcessCollector(None, path=str(files))  # type: ignore[no-untyped-call]
    return collector.collect()


def samples_in(families: Iterable[Any]) -> set[tuple[Any, ...]]:
    return {
        (
            family.name,
            family.type,
            family.documentation,
            sample.name,
            tuple(sorted(sample.labels.items())),
            sample.value,
        )
        for family in families
        for sample in family.samples
    }


def all_live() -> dict[int, int]:
    """Return two held slots, because prometheus_client takes every process for alive."""
    return {0: 1, 1: 1}


def test_collector_returns_the_families_of_prometheus_client_sorted_by_name(files: Path) -> None:
    upstream = upstream_families(files)
    families = list(WorkersCollector(files, all_live).collect())
    assert samples_in(families) == samples_in(upstream)
    names = [family.name for family in families]
    assert names == sorted(names)
    assert "http_requests" in names


def test_collector_ignores_a_file_that_is_being_created(files: Path, tmp_path: Path) -> None:
    copied(files, tmp_path)
    (tmp_path / "counter_999.db").touch()
    (tmp_path / "notes.txt").write_text("x")
    collected = WorkersCollector(tmp_path, all_live).collect()
    assert samples_in(collected) == samples_in(upstream_families(files))


def test_mark_process_dead_removes_live_gauges_and_keeps_counters(files: Path, tmp_path: Path) -> None:
    copied(files, tmp_path)
    owners = {path.stem.rpartition("_")[2] for path in tmp_path.glob("*.db")}
    assert owners == {"s0", "s1"}, "the parent, and two children that used one slot one after another"
    for owner in owners:
        mark_process_dead(owner, str(tmp_path))  # type: ignore[no-untyped-call]
    after = {family.name: family.samples for family in WorkersCollector(tmp_path, all_live).collect()}
    assert "http_requests_in_progress" not in after
    assert [sample.value for sample in after["http_requests"]] == [2]
