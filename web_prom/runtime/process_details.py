"""Threads, page faults and context switches of processes, read from /proc by process id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from web_prom.errors import raise_if_exhausted

# man 5 proc_pid_stat; counted from the field after the name of the program, which may have spaces.
_MINOR_FAULTS, _MAJOR_FAULTS, _THREADS = 7, 9, 17


def process_detail_families(pids: Mapping[str, int]) -> list[Metric]:
    """Return the families of several processes, none where there is no ``/proc``.

    Args:
        pids: Process ids by the value of the label ``worker``. A process whose label is empty has no such
            label. Ids of 0, processes that have ended, and those of other users are left out.

    Raises:
        UnreadableError: This process has no free descriptor at this moment.
    """
    labels = [] if set(pids) == {""} else ["worker"]
    threads = GaugeMetricFamily("process_threads", "Threads of a process.", labels=labels)
    faults = CounterMetricFamily(
        "process_page_faults",
        "Page faults of a process. A major one reads from the disk.",
        labels=[*labels, "type"],
    )
    switches = CounterMetricFamily(
        "process_context_switches",
        "Context switches of a process. A voluntary one waits, an involuntary one has used its time up.",
        labels=[*labels, "type"],
    )
    for worker, pid in pids.items():
        own = [worker] if labels else []
        for name, value in _read(pid) if pid > 0 else ():
            if name == "threads":
                threads.add_metric(own, value)
            elif name in ("minor", "major"):
                faults.add_metric([*own, name], value)
            else:
                switches.add_metric([*own, name], value)
    return [family for family in (threads, faults, switches) if family.samples]


def _read(pid: int) -> Iterator[tuple[str, int]]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        yield "threads", int(fields[_THREADS])
        yield "minor", int(fields[_MINOR_FAULTS])
        yield "major", int(fields[_MAJOR_FAULTS])
        # The totals of the process are those of its threads together.
        voluntary = involuntary = 0
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                name, _, value = line.partition(b":")
                if name == b"voluntary_ctxt_switches":
                    voluntary = int(value)
                elif name == b"nonvoluntary_ctxt_switches":
                    involuntary = int(value)
        yield "voluntary", voluntary
        yield "involuntary", involuntary
    except OSError as error:
        raise_if_exhausted(error)
    except (ValueError, IndexError):
        return
