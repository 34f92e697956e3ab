"""Private names of prometheus_client: each of them can be missing, and scrapes are right."""

from __future__ import annotations

import ast
import functools
import json
import re
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.web_prom.support import ROOT, python

pytestmark = pytest.mark.slow  # the tests start processes

# Renames a name in all of prometheus_client as it is imported, so that only web-prom misses it.
RENAME = """
    import importlib.abc, importlib.machinery, json, logging, os, re, sys
    renamed = sys.argv[1]

    class Loader(importlib.machinery.SourceFileLoader):
        def get_code(self, fullname):
            return compile(self.get_data(self.path), self.path, "exec")

        def get_data(self, path):
            text = super().get_data(path).decode()
            # Not in a text, such as the suffix of a sample.
            return re.sub("(?<!['\\"])\\\\b" + renamed + "\\\\b(?!['\\"])", renamed + "_2", text).encode()

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname, path, target=None):
            spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
            if renamed and fullname.startswith("prometheus_client") and spec is not None:
                with open(spec.origin) as source:
                    if renamed in source.read():  # compiling takes longer than all else here
                        spec.loader = Loader(spec.loader.name, spec.loader.path)
            return spec

    sys.meta_path.insert(0, Finder())

    logged = []
    class Handler(logging.Handler):
        def emit(self, record):
            logged.append([record.levelname, record.getMessage()])
    logging.getLogger("web_prom").addHandler(Handler())
"""

PROGRAM = """
    from prometheus_client import REGISTRY, Counter, Enum, Gauge, Histogram, Info, Summary
    if os.environ.get("LATE"):
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ["LATE"]
    jobs = Counter("shop_jobs", "Help.", ["kind"])
    jobs.labels("a").inc(2)
    jobs.labels("removed").inc(7)
    Gauge("shop_queue", "Help.", multiprocess_mode="max").set(3)
    Gauge("shop_line", "Help.", ["site"], multiprocess_mode="max").labels("x").set_function(lambda: 4)
    Histogram("shop_size_bytes", "Help.", unit="bytes", buckets=(1, 2e6)).observe(1.5)
    Summary("shop_time", "Help.", ["kind"]).labels("a").observe(5)
    Info("shop_build", "Help.").info({"version": "7"})
    Enum("shop_state", "Help.", states=["open", "closed"]).state("closed")

    from tests.web_prom.support import hello, serve
    from web_prom.metrics.get_or_create import get_or_create
    from web_prom.wsgi import PrometheusMiddleware

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/boom":
            raise ValueError
        return hello(environ, start_response)

    wrapped = PrometheusMiddleware(app, request_size=True)
    for path in ("/a", "/b", "/boom", "/c"):
        try:
            serve(wrapped, path)
        except ValueError:
            pass
    get_or_create(Counter, "shop_later", "Help.").inc()
    get_or_create(Counter, "shop_later", "Help.").inc()
    jobs.labels("a").inc()
    serve(wrapped, "/metrics")
    try:
        jobs.remove("removed")
    except UserWarning:
        pass
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
    print(json.dumps({
        "text": serve(wrapped, "/metrics").decode(),
        "again": serve(wrapped, "/metrics", QUERY_STRING="name[]=shop_jobs_total").decode(),
        "files": sorted(os.listdir(directory)) if directory else [],
        "logged": logged,
    }))
"""

# Lines whose values are other ones in each run.
TIMES = re.compile(r"#|process_|python_gc|\w+_created|web_prom_scrape_dur|\w+_duration_seconds_(bucket|sum)")
SUFFIXES = {"_bucket", "_total"}
NOT_UPSTREAM = {"_at_fork_reinit", "_successor"}

# Without these, label sets stay in value files.
REMOVAL = {"_is_parent", "_labelnames", "_labelvalues", "_lock", "_metrics", "_multiprocess_mode"}
# Without these, metrics that have local values keep them.
CARRYING = {"_buckets", "_count", "_metric_init", "_sum", "_value"}


def used_names() -> set[str]:
    """Return the private names that the sources of ``web_prom.upstream`` have."""
    found: set[str] = set()
    for path in (ROOT / "web_prom" / "upstream").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) != "self":
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.update(node.value.split("."))
    private = {name for name in found if re.fullmatch(r"_[a-z]\w*", name)}
    return private - SUFFIXES - NOT_UPSTREAM


NAMES = sorted({*used_names(), "MmapedValue", "MutexValue", "_name_set", "_registry", "floatToGoString"})


def run(renamed: str, mode: str, directory: Path) -> dict[str, Any]:
    """Return what the program prints if prometheus_client has another word for a name.

    Args:
        renamed: The name.
        mode: Whether values are of this process ``alone``, are ``shared``, or will be after some metrics were
            made (``late``).
        directory: The shared directory.
    """
    variables = {"alone": "IGNORED", "shared": "PROMETHEUS_MULTIPROC_DIR", "late": "LATE"}
    found: dict[str, Any] = json.loads(python(RENAME + PROGRAM, renamed, **{variables[mode]: str(directory)}))
    return found


def numbers(found: dict[str, Any]) -> set[str]:
    """Return the lines of both scrapes."""
    lines = f"{found['text']}{found['again']}".splitlines()
    return {line for line in lines if line and not TIMES.match(line)}


@functools.cache
def expected(mode: str) -> dict[str, Any]:
    """Return what the program prints if no name is missing."""
    with tempfile.TemporaryDirectory() as directory:
        return run("", mode, Path(directory))


def test_the_sources_have_private_names() -> None:
    """The tests below are about them."""
    assert {"_value", "_metrics", "_collector_to_names", "_metric_init", "_params"} <= set(NAMES)


@pytest.mark.parametrize("mode", ["alone", "shared", "late"])
def test_nothing_is_logged_if_no_name_is_missing(mode: str) -> None:
    assert expected(mode)["logged"] == []
    assert 'shop_jobs_total{kind="a"} 3.0' in expected(mode)["text"].splitlines()
    assert not any("web_prom_probe" in line for line in numbers(expected(mode)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["alone", "shared"])
def test_scrape_is_right_without_a_name(name: str, mode: str, tmp_path: Path) -> None:
    found = run(name, mode, tmp_path)
    difference = numbers(found) ^ numbers(expected(mode))
    if mode == "shared" and name in REMOVAL:
        assert 'shop_jobs_total{kind="removed"} 7.0' in difference
        difference = {line for line in difference if "removed" not in line and "_series" not in line}
    assert not difference
    assert found["files"] == expected(mode)["files"]
    for level, message in found["logged"]:
        assert level == "WARNING"
        assert message.startswith(f"prometheus_client {version('prometheus_client')} does not have the ")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_metrics_before_the_switch_are_shared_without_a_name(name: str, tmp_path: Path) -> None:
    """Or an error is logged, and all other numbers are right."""
    found = run(name, "late", tmp_path)
    difference = numbers(found) ^ numbers(expected("late"))
    errors = [message for level, message in found["logged"] if level == "ERROR"]
    if name in CARRYING:
        assert len(errors) == 1
        assert "cannot share metrics that were made before the switch" in errors[0]
        assert "PROMETHEUS_MULTIPROC_DIR" in errors[0]
        assert all(
            line.startswith(("shop_", "web_prom_files ", "web_prom_scrape_series ")) for line in difference
        )
        return
    assert not errors
    if name in REMOVAL:
        difference = {line for line in difference if "removed" not in line and "_series" not in line}
    assert not difference
    assert found["files"] == expected("late")["files"]


@pytest.mark.parametrize("mode", ["shared", "late"])
def test_switch_logs_an_error_if_the_value_class_cannot_be_replaced(mode: str, tmp_path: Path) -> None:
    """The error names the version and the remedy, and no slot is taken."""
    found = run("ValueClass", mode, tmp_path)
    (message,) = [message for level, message in found["logged"] if level == "ERROR"]
    assert message.startswith(f"prometheus_client {version('prometheus_client')}: web-prom cannot replace")
    assert "Install a version of prometheus_client" in message
    assert not [name for name in found["files"] if "_s0" in name]
    assert 'http_requests_total{method="GET",route="_unmatched",status="200"} 3.0' in found["text"]


def test_switch_logs_an_error_if_values_are_made_with_other_arguments(tmp_path: Path) -> None:
    """They would raise an exception where a metric is made."""
    code = """
        import logging, os, sys
        from prometheus_client import Counter, values
        def make(self):
            self._value = values.ValueClass(self._name, self._type, self._labelnames, self._labelvalues)
        Counter._metric_init = make
        logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
        from web_prom.multiprocess.writing.activation import share_values
        assert not share_values()
        assert not share_values()
        print(os.listdir(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    """
    lines = python(code, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)).splitlines()
    assert len([line for line in lines if line.startswith("ERROR")]) == 1
    assert lines[-1] == "[]"
