"""The switch with a process's first value: it needs no call, and nothing happens before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.web_prom.support import python

pytestmark = pytest.mark.slow  # the tests start processes


def value_files(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(path) if name.endswith(".db"))


@pytest.mark.parametrize(
    "adapter", ["flask_prom", "web_prom.wsgi", "web_prom.asgi", "django_prom.middleware"]
)
def test_fault_39_metric_after_the_import_of_an_adapter_is_in_a_slot(adapter: str, tmp_path: Path) -> None:
    code = f"""
        import os
        import {adapter}
        assert not os.listdir(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        from prometheus_client import Counter, Gauge
        Counter("jobs", "Help.", ["x"]).labels("1").inc(3)
        Gauge("busy", "Help.", multiprocess_mode="livesum").set(1)
    """
    python(code, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert value_files(tmp_path) == ["counter_s0.db", "gauge_livesum_s0.db"]


def test_fault_39_metrics_before_the_import_are_carried_over_with_the_first_one_after_it(
    tmp_path: Path,
) -> None:
    code = """
        from prometheus_client import CollectorRegistry, Counter
        before = Counter("before", "Help.", registry=CollectorRegistry())
        before.inc(2)
        import flask_prom
        Counter("after", "Help.").inc()
        before.inc(1)
        print(before._value.get())
    """
    assert python(code, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) == "3.0\n"
    assert value_files(tmp_path) == ["counter_s0.db"]


def test_fault_66_gunicorn_hooks_switch_an_application_that_imports_web_prom_last(
    tmp_path: Path,
) -> None:
    """What is imported is prometheus_client as ever; the import alone makes nothing."""
    code = """
        import os, sys
        import web_prom.gunicorn
        from web_prom.multiprocess.writing.early_activation import _Finder
        assert isinstance(sys.meta_path[0], _Finder)
        import prometheus_client
        directory = os.environ["PROMETHEUS_MULTIPROC_DIR"]
        assert not any(isinstance(finder, _Finder) for finder in sys.meta_path)
        assert type(prometheus_client.__loader__).__name__ == "SourceFileLoader"
        assert prometheus_client.__spec__.loader is prometheus_client.__loader__
        assert not any(name.endswith(".db") for name in os.listdir(directory))
        prometheus_client.Counter("jobs", "Help.").inc()
        print(*[name for name in os.listdir(directory) if name.endswith(".db")])
    """
    assert python(code, PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "shared")) == "counter_s0.db\n"


@pytest.mark.parametrize("late", ["", "os.environ.pop('PROMETHEUS_MULTIPROC_DIR')"])
def test_first_value_stays_in_memory_without_a_directory(late: str, tmp_path: Path) -> None:
    """The variable was never there, or is gone before the first value."""
    code = f"""
        import os
        import flask_prom
        from prometheus_client import Counter, values
        {late}
        Counter("jobs", "Help.").inc()
        print(values.ValueClass.__name__)
    """
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)} if late else {}
    assert python(code, **environ) == "MutexValue\n"
    assert os.listdir(tmp_path) == []
