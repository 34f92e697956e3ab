"""The variable that names the shared directory: both spellings, an empty value, and a relative path."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.web_prom.support import ROOT
from web_prom.multiprocess.directory.environment import (
    OLD_DIR_VARIABLE,
    configured_directory,
    is_set_but_empty,
    unset_directory,
)

UPPER = "PROMETHEUS_MULTIPROC_DIR"


def run(code: str, folder: Path, **environ: str) -> str:
    """Run code in a new interpreter, in a working directory; return its output."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("PROM")}
    done = subprocess.run(
        [sys.executable, "-B", "-c", textwrap.dedent(code)],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def value_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.db"))


def test_fault_38_lower_case_spelling_is_copied_with_a_warning() -> None:
    environ = {OLD_DIR_VARIABLE: "/former"}
    with pytest.warns(DeprecationWarning, match="prometheus_multiproc_dir variable has been deprecated"):
        assert configured_directory(environ) == "/former"
    assert environ[UPPER] == "/former"
    assert configured_directory(environ) == "/former"  # without a second warning


@pytest.mark.parametrize(
    ("environ", "path", "empty"),
    [
        ({}, "", False),
        ({UPPER: "/upper", OLD_DIR_VARIABLE: "/former"}, "/upper", False),
        ({UPPER: "/upper", OLD_DIR_VARIABLE: ""}, "/upper", False),
        ({UPPER: ""}, "", True),
        ({OLD_DIR_VARIABLE: ""}, "", True),
        ({UPPER: "", OLD_DIR_VARIABLE: ""}, "", True),
    ],
)
def test_fault_38_upper_case_spelling_has_precedence(environ: Any, path: str, empty: bool) -> None:
    assert configured_directory(environ) == path
    assert is_set_but_empty(environ) is empty
    unset_directory(environ)
    assert environ == {}


WORKER = """
    import os, sys
    from prometheus_client import Counter, Gauge
    early = Gauge("early", "Help.", multiprocess_mode="livesum")
    from web_prom import PrometheusMiddleware
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]
    measured = PrometheusMiddleware(app)
    def get(path):
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "wsgi.multiprocess": True}
        body = measured(environ, lambda *_: None)
        text = b"".join(body).decode()
        getattr(body, "close", lambda: None)()
        return text
    early.inc()
    get("/x")
    print([line for line in get("/metrics").splitlines() if line.startswith(("early", "web_prom_workers"))])
"""


@pytest.mark.slow
def test_fault_38_worker_with_the_lower_case_spelling_writes_to_a_slot(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    printed = [run(WORKER, tmp_path, **{OLD_DIR_VARIABLE: str(shared)}) for _ in range(2)]
    assert printed == ["['early 1.0', 'web_prom_workers 1.0']\n"] * 2
    assert value_files(tmp_path)
    assert all("_s0.db" in name for name in value_files(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", [UPPER, OLD_DIR_VARIABLE])
def test_fault_56_empty_variable_counts_as_unset(tmp_path: Path, name: str) -> None:
    """No files stay in the working directory, and earlier counts are kept."""
    printed = run(
        """
        import os, subprocess, sys
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        unknown = Counter("unknown", "Of another registry.", registry=CollectorRegistry())
        unknown.inc(2)
        busy = Gauge("busy", "Help.", ["x"], multiprocess_mode="livesum")
        busy.labels("1").set(3)
        seconds = Histogram("seconds", "Help.", buckets=(1, 2))
        seconds.observe(1.5)
        assert os.listdir()
        from web_prom import make_wsgi_app
        from web_prom.multiprocess.writing.activation import is_shared
        app = make_wsgi_app()
        assert not is_shared()
        unknown.inc()
        busy.labels("1").inc()
        seconds.observe(1.5)
        Gauge("late", "Help.").set(1)
        text = b"".join(app({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None)).decode()
        shown = ("busy", "seconds_sum", "seconds_count")
        print(*[line for line in text.splitlines() if line.startswith(shown)])
        print(unknown._value.get(), os.listdir())
        child = "from prometheus_client import Counter; Counter('c', 'd').inc()"
        subprocess.run([sys.executable, "-c", child], check=True)
        print(os.listdir())
        """,
        tmp_path,
        **{name: ""},
    )
    assert printed.splitlines() == [
        'busy{x="1"} 4.0 seconds_count 2.0 seconds_sum 3.0',
        "3.0 []",
        "[]",
    ]


@pytest.mark.slow
def test_fault_56_warning_for_several_workers_with_an_empty_variable(tmp_path: Path) -> None:
    printed = run(
        """
        import logging, sys
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        from web_prom import make_wsgi_app
        app = make_wsgi_app()
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.multiprocess": True}
        app(environ, lambda *_: None)
        """,
        tmp_path,
        **{UPPER: ""},
    )
    assert "this server has several workers and PROMETHEUS_MULTIPROC_DIR is not set" in printed


@pytest.mark.slow
def test_fault_78_relative_path_is_resolved_when_values_become_shared(tmp_path: Path) -> None:
    """The working directory may change before the first value is created, and in a child."""
    (tmp_path / "elsewhere").mkdir()
    printed = run(
        """
        import os, subprocess, sys
        from web_prom import make_wsgi_app
        app = make_wsgi_app()
        os.chdir("elsewhere")
        from prometheus_client import Counter
        Counter("jobs", "Help.").inc(3)
        child = "from web_prom import share_values; share_values(); "
        child += "from prometheus_client import Counter; Counter('jobs', 'Help.').inc()"
        subprocess.run([sys.executable, "-c", child], check=True)
        text = b"".join(app({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None)).decode()
        print(*[line for line in text.splitlines() if line.startswith("jobs_total")])
        """,
        tmp_path,
        **{UPPER: "shared"},
    )
    assert printed == "jobs_total 4.0\n"
    assert value_files(tmp_path) == ["counter_s0.db", "counter_s1.db"]
    assert not list((tmp_path / "elsewhere").iterdir())
