"""Checks of the service's processes and of the exporter itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from web_prom.advice.scrapes import Scrape, Window
from web_prom.advice.verdict import Severity, Verdict, counted

MEMORY_GROWTH_BYTES = 10 * 2**20
MEMORY_GROWTH_SHARE = 0.05
"""A worker's memory grows if it gained both within the time that was watched."""

SCRAPE_SECONDS = (1.0, 8.0)
"""Prometheus gives up after ten seconds by default."""

FILES_PER_WORKER = 16
"""A worker writes a file for each type of metric, and one more for each mode of gauges."""

_STARTED = "process_start_time_seconds"


def memory(window: Window) -> Iterator[Verdict]:
    """Look for workers whose memory grows."""
    before, after = _by_process(window, "process_resident_memory_bytes")
    for worker in sorted(before.keys() & after.keys()):
        grown = after[worker] - before[worker]
        if grown >= MEMORY_GROWTH_BYTES and grown >= MEMORY_GROWTH_SHARE * before[worker]:
            yield Verdict(
                name="memory_growing",
                severity=Severity.WARNING,
                summary=(
                    f"{_name(worker)} grew by {grown / 2**20:.0f} MiB in {window.seconds:.0f} s, "
                    f"to {after[worker] / 2**20:.0f} MiB."
                ),
                remedy=(
                    "Watch it for longer. If it goes on, find the leak, or set gunicorn's --max-requests "
                    "meanwhile."
                ),
                numbers={"grown_bytes": grown, "resident_bytes": after[worker]},
            )


def restarts(window: Window) -> Iterator[Verdict]:
    """Look for workers that were replaced while they were watched."""
    if window.before is None:
        return
    before, after = _started(window.before), _started(window.after)
    if "" in after or "" in before:
        return
    replaced = [worker for worker, started in after.items() if started > window.before.at]
    if replaced and len(replaced) * 2 >= len(after):
        yield Verdict(
            name="restarts",
            severity=Severity.WARNING,
            summary=(
                f"{len(replaced)} of {counted(len(after), 'worker')} started within the last "
                f"{window.seconds:.0f} s."
            ),
            remedy=(
                "Unless this is a deployment: read the server's log for crashes, time-outs and the kernel's "
                "out-of-memory killer; raise --max-requests if that is what ends them."
            ),
            numbers={"restarted": len(replaced), "workers": len(after)},
        )


def sharing(window: Window) -> Iterator[Verdict]:
    """Look for several processes of which each shows its own numbers alone."""
    if window.before is None:
        return
    before, after = _started(window.before).get(""), _started(window.after).get("")
    if before is None or after is None:
        return
    # A process that was there before the first scrape is no successor of the one that answered it.
    if before != after and max(before, after) < window.before.at:
        yield Verdict(
            name="values_not_shared",
            severity=Severity.CRITICAL,
            summary="Two scrapes were answered by two processes, and each shows only its own numbers.",
            remedy=(
                "Start the server with 'gunicorn -c python:web_prom.gunicorn', or set "
                "PROMETHEUS_MULTIPROC_DIR to a "
                "directory that all workers share."
            ),
            numbers={"first_started": before, "second_started": after},
        )


def label_overflow(window: Window) -> Iterator[Verdict]:
    """Look for families that reached their cap on label sets."""
    for family, count in sorted(window.after.sum_by_label("web_prom_label_overflow_total", "family").items()):
        if count:
            yield Verdict(
                name="label_overflow",
                severity=Severity.WARNING,
                summary=(
                    f"{family} has as many label sets as it may, and counts "
                    f"{counted(count, 'observation')} under _overflow."
                ),
                remedy=(
                    "Find the label with too many values in the family's series, and use templates or "
                    "classes "
                    "in its place; PROM_MAX_LABEL_SETS raises the cap."
                ),
                numbers={"observations": count},
            )


def exporter(window: Window) -> Iterator[Verdict]:
    """Look at what the exporter says about its own work."""
    after = window.after
    seconds = after.total("web_prom_scrape_duration_seconds") or 0.0
    if seconds >= SCRAPE_SECONDS[0]:
        series = after.total("web_prom_scrape_series") or 0.0
        yield Verdict(
            name="slow_scrape",
            severity=Severity.CRITICAL if seconds >= SCRAPE_SECONDS[1] else Severity.WARNING,
            summary=f"A scrape of {series:.0f} series takes {seconds:.1f} s.",
            remedy=(
                "Look for a custom collector that waits (PROM_COLLECTOR_TIMEOUT limits it), or for labels "
                "with too many values."
            ),
            numbers={"seconds": seconds, "series": series},
        )
    files, processes = after.total("web_prom_files") or 0.0, after.total("web_prom_workers") or 0.0
    if processes and files > FILES_PER_WORKER * max(processes, 4):
        yield Verdict(
            name="files_pile_up",
            severity=Severity.WARNING,
            summary=f"{files:.0f} value files are in the directory of {counted(processes, 'worker')}.",
            remedy=(
                "Look for processes that write to the directory without web_prom: their files stay for ever."
            ),
            numbers={"files": files, "workers": processes},
        )
    corrupt = after.total("web_prom_damaged_files")
    if corrupt:
        yield Verdict(
            name="corrupt_files",
            severity=Severity.WARNING,
            summary=f"{counted(corrupt, 'value file')} cannot be read: what is in there is missing.",
            remedy=(
                "The log names each. Look for a full disk or for another program that writes there, then "
                "delete them."
            ),
            numbers={"files": corrupt},
        )
    yield from _errors(window)


def _errors(window: Window) -> Iterator[Verdict]:
    lost = window.after.total("web_prom_storage_errors_total")
    if lost:
        yield Verdict(
            name="storage_errors",
            severity=Severity.CRITICAL
            if window.increase("web_prom_storage_errors_total")
            else Severity.WARNING,
            summary=f"{counted(lost, 'time')} values could not be written to the shared directory.",
            remedy="Look whether its disk is full or read-only; the log has the first error.",
            numbers={"errors": lost},
        )
    for stage, count in sorted(
        window.after.sum_by_label("web_prom_instrumentation_errors_total", "stage").items()
    ):
        if count:
            yield Verdict(
                name="instrumentation_errors",
                severity=Severity.WARNING,
                summary=(
                    f"The instrumentation failed {counted(count, 'time')} at '{stage}'. The requests went on."
                ),
                remedy="The log has the first traceback of that stage.",
                numbers={"errors": count},
            )


def _started(scrape: Scrape) -> Mapping[str, float]:
    return scrape.sum_by_label(_STARTED, "worker")


def _by_process(window: Window, name: str) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Return a gauge by worker in both scrapes, of workers that are the same process in both."""
    if window.before is None:
        return {}, {}
    then, now = _started(window.before), _started(window.after)
    same = {worker for worker in then.keys() & now.keys() if then[worker] == now[worker]}
    before, after = window.before.sum_by_label(name, "worker"), window.after.sum_by_label(name, "worker")
    return {key: before[key] for key in before.keys() & same}, {
        key: after[key] for key in after.keys() & same
    }


def _name(worker: str) -> str:
    return f"Worker {worker}" if worker else "The process"
