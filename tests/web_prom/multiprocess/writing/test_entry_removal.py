"""Label sets that former holders of a slot have left, or that other processes have, when they are removed."""

from __future__ import annotations

import contextlib
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.web_prom.multiprocess.forking import forking_program, memory_directory
from tests.web_prom.multiprocess.writing.label_sets import MODES, Scrape, make, next_holder, use
from tests.web_prom.support import python, samples
from web_prom.multiprocess.writing import current_storage

# The slot's former holders --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["counter", "summary", "histogram", *MODES])
@pytest.mark.parametrize("how", ["remove", "clear", "remove_by_labels"])
def test_fault_44_remove_includes_label_sets_of_former_slot_holders(
    scrape: Scrape, kind: str, how: str
) -> None:
    """This process never made the label set, with other documentation and other buckets perhaps."""
    options: dict[str, Any] = {"buckets": (2, 3, 4)} if kind == "histogram" else {}
    former = make(kind, **options)
    for x in "ab":
        use(former.labels(x, "1"))
    next_holder()
    use(make(kind, "Another text.").labels("a", "1"))
    next_holder()
    instrument = make(kind)
    if how == "remove":
        instrument.remove("a", "1")
    elif how == "clear":
        instrument.clear()
    elif hasattr(instrument, how):
        instrument.remove_by_labels({"x": "a"})
    else:
        pytest.skip("this prometheus_client has no remove_by_labels()")
    assert set(scrape(kind)) == (set() if how == "clear" else {("b", "1")})
    use(instrument.labels("a", "1"), 1.0)
    assert scrape(kind)["a", "1"] == 1, "nothing of what was there before counts"


def test_remove_includes_label_sets_of_another_metric_of_the_process(scrape: Scrape) -> None:
    """An instrument that was made again does not have the children of its predecessor."""
    make("counter").labels("a", "1").inc()
    make("counter").remove("a", "1")
    assert scrape("counter") == {}


@pytest.mark.parametrize("kind", ["summary", "histogram"])
@pytest.mark.parametrize("stop", range(1, 9))
def test_removal_after_a_kill_is_finished_by_the_next_slot_holder(
    scrape: Scrape, kind: str, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any store: the label set is shown as before or not at all, and begins at zero afterwards."""
    instrument = make(kind)
    for x in "ab":
        use(instrument.labels(x, "1"))
        assert scrape(kind)[x, "1"] == 3
    files = current_storage.process_storage()._files
    assert files is not None
    file = files.open_files[kind]

    class Stopped(Exception):
        pass

    class View:
        def __init__(self, view: Any) -> None:
            self.view, self.left = view, stop

        def __getitem__(self, at: int) -> float:
            return self.view[at]  # type: ignore[no-any-return]

        def __setitem__(self, at: int, value: float) -> None:
            self.left -= 1
            if not self.left:
                raise Stopped
            self.view[at] = value

        def release(self) -> None:
            self.view.release()

    monkeypatch.setattr(file, "view", View(file.view))
    with contextlib.suppress(Stopped):
        instrument.remove("a", "1")
    found = scrape.all_samples()
    if kind == "histogram" or stop > 2:  # until then a summary's sum is there without the count
        names = {name for name, labels in found.items() if (("x", "a"), ("y", "1")) in labels}
        assert not names or (stop == 1 and "m_count" in names)
    next_holder()
    instrument = make(kind)
    use(instrument.labels("b", "1"), 1.0)
    assert scrape(kind)["b", "1"] == 4
    if stop > 1:
        assert set(scrape(kind)) == {("b", "1")}
    use(instrument.labels("a", "1"), 1.0)
    assert scrape(kind)["a", "1"] == (1 if stop > 1 else 4)
    counts = samples(scrape.warm, "m_count", "x")
    assert counts["a",] == (1 if stop > 1 else 2)


# Several processes ----------------------------------------------------------------------------------


PRELUDE = """
    import os, sys, tempfile
    from pathlib import Path
    from web_prom.multiprocess.writing.activation import share_values
    from tests.web_prom.multiprocess.writing.label_sets import KINDS, Scrape, make, use
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
    share_values()

    def in_child(work, *arguments):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                work(*arguments)
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0, arguments

    def for_each_kind(work):
        for kind in KINDS:
            directory = Path(tempfile.mkdtemp(dir=sys.argv[1]))
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
            in_child(work, kind, directory)
"""


def run(code: str, directory: Path) -> None:
    """Run code after the prelude, in a fresh interpreter."""
    python(textwrap.dedent(PRELUDE) + textwrap.dedent(code), str(directory))


@pytest.mark.slow
@pytest.mark.unmeasured
def test_fault_44_remove_keeps_label_sets_of_other_processes(tmp_path: Path) -> None:
    """A child removes what it inherited; the parent's own stays until the parent removes it too."""
    code = """
        def parent(kind, directory):
            instrument, scrape = make(kind), Scrape(directory)
            use(instrument.labels("a", "1"), 3.0)

            def child():
                use(instrument.labels("a", "1"), 4.0)
                use(instrument.labels("b", "1"), 4.0)
                instrument.remove("a", "1")
                assert ("b", "1") in scrape(kind)
                instrument.clear()
                use(instrument.labels("c", "1"), 4.0)
                instrument.remove("c", "1")

            in_child(child)
            assert scrape(kind) == {("a", "1"): 3}, (kind, scrape(kind))
            in_child(instrument.remove, "a", "1")
            in_child(instrument.clear)
            assert scrape(kind) == {("a", "1"): 3}, (kind, scrape(kind))
            instrument.remove("a", "1")
            assert scrape(kind) == {}

        for_each_kind(parent)
    """
    run(code, tmp_path)


@pytest.mark.slow
def test_fault_44_share_values_replaces_the_methods(tmp_path: Path) -> None:
    """Instruments from before and after it, also of values that prometheus_client has made itself."""
    code = """
        import os
        from prometheus_client import CollectorRegistry, Counter
        early = Counter("early", "Help.", ["x"])
        unknown = Counter("unknown", "Help.", ["x"], registry=None)
        for each in (early, unknown):
            each.labels("a").inc()
        from web_prom import make_wsgi_app
        app = make_wsgi_app()
        late = Counter("late", "Help.", ["x"])
        late.labels("a").inc()

        def text():
            environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.multiprocess": True}
            return b"".join(app(environ, lambda *_: None)).decode()

        for each in (early, unknown, late):
            assert f'{each._name}_total{{x="a"}} 1.0' in text()
            each.remove("a")
            assert "_total{x=" not in text() or each is not late, text()
        for each in (early, unknown, late):
            each.labels("a").inc()
        for each in (early, unknown, late):
            assert f'{each._name}_total{{x="a"}} 1.0' in text()
            each.clear()
        assert "_total{x=" not in text()
    """
    python(code, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))


@pytest.mark.slow
def test_clear_of_web_proms_metrics_is_followed_by_new_label_sets(tmp_path: Path) -> None:
    """Values that requests are bound to go on at the same places, from zero."""
    code = """
        from prometheus_client import REGISTRY
        from web_prom import PrometheusMiddleware
        from tests.web_prom.support import serve, hello
        app = PrometheusMiddleware(hello)

        def lines():
            return [line for line in serve(app, "/metrics").decode().splitlines() if "_unmatched" in line]

        serve(app, "/"), serve(app, "/")
        assert any(line.startswith("http_requests_total") and line.endswith(" 2.0") for line in lines())
        for name in ("http_requests_total", "http_request_duration_seconds"):
            REGISTRY._names_to_collectors[name].clear()
        assert not lines()
        serve(app, "/")
        found = lines()
        for name in ("http_requests_total", "http_request_duration_seconds_count"):
            assert any(line.startswith(name) and line.endswith(" 1.0") for line in found)
    """
    python(code, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))


@pytest.mark.slow
def test_removed_entries_do_not_change_what_prometheus_client_merges(tmp_path: Path) -> None:
    """Its own collector may show a removed label set, and merges the others as if it were not there."""
    code = """
        from prometheus_client import CollectorRegistry
        from prometheus_client.multiprocess import MultiProcessCollector

        def parent(kind, directory):
            instrument = make(kind)
            use(instrument.labels("a", "1"), 3.0)

            def child():
                use(instrument.labels("a", "1"), 9.0)
                instrument.remove("a", "1")
                use(instrument.labels("b", "1"), 9.0)
                instrument.remove("b", "1")
                registry = CollectorRegistry()
                MultiProcessCollector(registry, str(directory))
                name = {"counter": "m_total", "summary": "m_sum", "histogram": "m_sum"}.get(kind, "m")
                found = {
                    sample.value
                    for family in registry.collect()
                    for sample in family.samples
                    if sample.name == name and sample.labels["x"] == "a" and sample.labels.get("pid") != "s1"
                }
                assert found == {3.0}, (kind, found)

            in_child(child)

        for_each_kind(parent)
    """
    run(code, tmp_path)


@pytest.mark.unmeasured
@pytest.mark.slow
def test_fault_44_kill_at_any_line_of_a_removal_leaves_all_or_nothing() -> None:
    """In real processes, each killed at the next line; the next holder begins at zero or goes on."""
    # The process that forks acts as the next holder. It has no thread: a fork without hooks hangs if another
    # thread waits to run.
    code = """
        import signal
        from tests.web_prom.multiprocess.writing.label_sets import next_holder
        from web_prom.multiprocess.writing import entry_removal
        from web_prom.multiprocess.writing import value_file
        from web_prom.multiprocess.writing.watch_thread import WatchThread
        WATCHED = {entry_removal.__file__, value_file.__file__}

        def killed(kind, line):
            instrument = make(kind)
            use(instrument.labels("a", "1"))
            use(instrument.labels("b", "1"))
            left = line

            def trace(frame, event, argument):
                nonlocal left
                if frame.f_code.co_filename not in WATCHED:
                    return None
                left -= event == "line"
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
                return trace

            sys.settrace(trace)
            instrument.remove("a", "1")
            sys.settrace(None)

        def start_no_thread(self):
            pass

        def next_one(kind, directory):
            start, WatchThread.start = WatchThread.start, start_no_thread
            scrape, instrument = Scrape(directory), make(kind)
            before = scrape(kind)
            assert before["b", "1"] == 3 and before.get(("a", "1"), 3) == 3, before
            use(instrument.labels("a", "1"), 1.0)
            use(instrument.labels("b", "1"), 1.0)
            assert scrape(kind) == {("a", "1"): before.get(("a", "1"), 0) + 1, ("b", "1"): 4}
            count = [s for f in scrape.warm.collect() for s in f.samples if s.name == "m_count"]
            if kind == "histogram":
                found = {s.labels["x"]: s.value for s in count}
                assert found == {"a": len(before), "b": 2}, (before, found)
            next_holder()
            WatchThread.start = start

        for kind in ("histogram", "counter"):
            for line in range(1, 400):
                directory = Path(tempfile.mkdtemp(dir=sys.argv[1]))
                os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
                pid = quick_fork()
                if not pid:
                    killed(kind, line)
                    os._exit(0)
                status = os.waitpid(pid, 0)[1]
                assert status in (0, signal.SIGKILL)
                next_one(kind, directory)
                if not status:
                    break
            assert 10 < line < 399, line
    """
    with memory_directory() as path:
        forking_program(textwrap.dedent(PRELUDE) + textwrap.dedent(code), str(path))
