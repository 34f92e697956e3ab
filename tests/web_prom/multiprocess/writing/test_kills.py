"""SIGKILL at every line of the writing side: nothing acknowledged is lost, and every file can be read."""

from __future__ import annotations

import textwrap

import pytest

from tests.web_prom.multiprocess.forking import forking_program, memory_directory

pytestmark = [pytest.mark.slow, pytest.mark.once]

# Kills a process at the n-th line that it runs of the modules that write; then another takes the slot over.
HARNESS = """
import os, shutil, signal, sys
from pathlib import Path
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, values
from prometheus_client.multiprocess import MultiProcessCollector
from web_prom.multiprocess.directory import slots as slots_module
from web_prom.multiprocess.writing import current_storage, process_files
from web_prom.multiprocess.writing import slot_files, storage_errors, value_file
from web_prom.multiprocess.writing import shared_value as values_module
from web_prom.multiprocess.writing.shared_value import SharedValue
from web_prom.multiprocess.writing.watch_thread import WatchThread

values.ValueClass = SharedValue
MODULES = (current_storage, process_files, slot_files, storage_errors, value_file, values_module)
WATCHED = {module.__file__ for module in MODULES}
root = Path(sys.argv[1])
root.mkdir()

def killer(line):
    "Return a trace function that kills at the n-th line. Only the first two times of each line count."
    left, times = line, {}

    def trace(frame, event, argument):
        nonlocal left
        code = frame.f_code
        if code.co_filename not in WATCHED:
            return None
        if event == "line":
            place = id(code), frame.f_lineno
            before = times.get(place, 0)
            if before < 2:
                times[place] = before + 1
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace

def start_no_thread(self):
    "Do not start the watch thread: a fork without hooks hangs if another thread waits to run."

def in_this_process(work):
    "Run work(acknowledge) as the next process, which then ends; return what was acknowledged."
    names = []
    start, WatchThread.start = WatchThread.start, start_no_thread
    work(names.append)
    WatchThread.start = start
    current_storage.process_storage().close()
    current_storage._last = process_files.ProcessStorage()
    # As at the end of a process: the kernel releases the slot.
    for slots in slots_module._slots.values():
        slots._file.close()
    slots_module._slots.clear()
    return names

def in_child(work):
    "Run work(acknowledge) in a fork; return what was acknowledged before it ended, and its status."
    reading, writing = os.pipe()
    pid = quick_fork()
    if not pid:
        try:
            os.close(reading)
            work(lambda name: os.write(writing, name.encode() + b" "))
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    with open(reading) as told:
        names = told.read().split()
    return names, os.waitpid(pid, 0)[1]

def totals(directory):
    "What prometheus_client reads of all files, which it has to be able to at any moment."
    found = {}
    for family in MultiProcessCollector.merge([str(path) for path in directory.glob("*.db")]):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found

def instruments():
    registry = CollectorRegistry()
    return (
        Counter("c", "Help.", ["x"], registry=registry),
        Histogram("h", "Help.", buckets=(1,), registry=registry),
        Gauge("g", "Help.", registry=registry, multiprocess_mode="livesum"),
        Gauge("k", "Help.", registry=registry, multiprocess_mode="sum"),
    )

def use(acknowledge, large):
    counter, duration, live, kept = instruments()
    for number in range(3):
        counter.labels("1").inc()
        acknowledge("c_total")
        duration.observe(0.5)
        acknowledge("h_count")
        live.inc()
        acknowledge("g")
        kept.inc()
        acknowledge("k")
        if large:
            counter.labels(str(number) * 40_000).inc()
            acknowledge("c_total")

def prepare(directory):
    "Leave there what a process left that is dead; return what it acknowledged."
    directory.mkdir()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    names, status = in_child(lambda acknowledge: use(acknowledge, False))
    assert status == 0
    return names

def run(line, template, former):
    "Return whether the line came."
    directory = root / "shared"
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    if template:
        shutil.copytree(template, directory)
    else:
        directory.mkdir()

    def killed(acknowledge):
        sys.settrace(killer(line))
        use(acknowledge, large=bool(template))
        sys.settrace(None)

    try:
        acknowledged, status = in_child(killed)
        assert status in (0, signal.SIGKILL), status
        between = totals(directory)
        afterwards = in_this_process(lambda acknowledge: use(acknowledge, False))
        found = totals(directory)
        for name in ("c_total", "h_count", "k"):
            written = (former + acknowledged).count(name)
            # One more may be there: it was written, and the process killed before it could say so.
            assert written <= between.get(name, 0) <= written + 1, (line, name, written, between)
            assert found[name] == between.get(name, 0) + afterwards.count(name), (line, name, found)
        assert found["h_sum"] in (found["h_count"] / 2, found["h_count"] / 2 + 0.5), (line, found)
        assert found["g"] == 3, (line, "the live gauge is the successor's alone", found)
        assert found["web_prom_storage_errors_total"] == 0
        assert not list(directory.glob("*.new")), line
        assert {path.name for path in directory.glob("*.db")} == {
            "counter_s0.db", "histogram_s0.db", "gauge_livesum_s0.db", "gauge_sum_s0.db"
        }
        return status != 0
    finally:
        shutil.rmtree(directory)
"""


@pytest.mark.parametrize("before", [False, True], ids=["fresh", "taken over"])
def test_kill_at_any_line_loses_no_value(before: bool) -> None:
    """In a fresh directory, where files are made; and in a slot that is taken over, where they grow."""
    code = HARNESS + textwrap.dedent(
        """
        template = root / "before" if sys.argv[2] == "True" else None
        former = prepare(template) if template else []
        line = int(sys.argv[3])
        while line < int(sys.argv[4]) and run(line, template, former):
            line += 1
        print(line)
        """
    )
    line, end = 1, 1
    with memory_directory() as path:
        while line == end:
            begin, end = end, end + 200
            line = int(forking_program(code, str(path / str(begin)), str(before), str(begin), str(end)))
    assert line > 250
