"""The dashboard of workers: are there enough of them, and what does each cost?"""

from __future__ import annotations

from web_prom import family_names
from web_prom.dashboards.model import Dashboard, Limits, Panel, Query, Row
from web_prom.dashboards.names import RATE, Names
from web_prom.dashboards.saturation_panels import saturation_panels
from web_prom.metrics import conventions

_PURPOSE = """\
Are there enough workers, and what does each of them cost?

Utilisation and queue time answer the first question, and the CPU for each busy second says whether
threads or processes are missing. The second row shows each worker, and the last row shows whether the
metrics themselves are complete. More: `docs/how-to/saturation.rst`."""

_WORKER = "{{instance}} {{worker}}"


def dashboard(names: Names) -> Dashboard:
    """Return the dashboard."""
    return Dashboard(
        title="Workers",
        purpose=_PURPOSE,
        rows=(
            Row("Are there enough workers?", saturation_panels(names)),
            Row("Each worker", _workers(names)),
            Row("The metrics themselves", _own(names)),
        ),
    )


def _workers(names: Names) -> tuple[Panel, ...]:
    start = names.of(family_names.PROCESS_START_TIME)
    before = f"{start} offset {RATE}"
    changed = f"({start} > {before} or {start} unless {before})"
    return (
        Panel(
            title="Memory by worker",
            description="Resident memory. A line that only rises is a leak or a cache without a limit: "
            "compare it with the requests, and limit the life of workers, for example with gunicorn's "
            "--max-requests.",
            unit="bytes",
            queries=(Query(names.of(family_names.PROCESS_RESIDENT_MEMORY), _WORKER),),
        ),
        Panel(
            title="CPU by worker",
            description="Cores in use. 1 is one core. A worker near 1 is limited by Python's lock: more "
            "threads do not help. One worker far above the others: an endless loop.",
            unit="short",
            limits=Limits(0.8, 0.95),
            queries=(Query(names.rate(family_names.PROCESS_CPU), _WORKER),),
        ),
        Panel(
            title="File descriptors by worker",
            description="The share of the allowed descriptors that are open. A line that only rises: files "
            "or connections are not closed. At 100 % the worker accepts no connection.",
            unit="percentunit",
            limits=Limits(0.7, 0.9),
            queries=(
                Query(
                    f"{names.of(family_names.PROCESS_OPEN_FDS)} / {names.of(family_names.PROCESS_MAX_FDS)}",
                    _WORKER,
                ),
            ),
        ),
        Panel(
            title="Worker starts",
            description="Processes that started in the last interval. All at once: a deploy. One by one, "
            "again and again: workers are killed or crash. Look for time-outs and for the kernel's "
            "out-of-memory killer.",
            unit="short",
            queries=(
                Query(f"count by (instance) {changed} or 0 * count by (instance) ({start})", "{{instance}}"),
            ),
        ),
        Panel(
            title="Age of workers",
            description="Seconds since each process started. Ages that stay short are a crash loop.",
            unit="s",
            queries=(Query(f"time() - {start}", _WORKER),),
        ),
        Panel(
            title="Youngest worker by instance",
            description="Red: a worker started within the last minute. If it stays red without a deploy, "
            "workers die: see the log of the server.",
            kind="bargauge",
            unit="s",
            limits=Limits(60, 300, low=True),
            queries=(Query(f"time() - max by (instance) ({start})", "{{instance}}"),),
        ),
    )


def _own(names: Names) -> tuple[Panel, ...]:
    return (
        Panel(
            title="Scrapes",
            description="How long a scrape takes, as Prometheus and as the application see it. From the "
            "scrape interval on scrapes fail: reduce labels, or give the exporter a process of its own.",
            unit="s",
            limits=Limits(1, 5),
            queries=(
                Query(
                    f"max by (instance) ({names.of('scrape_duration_seconds')})", "{{instance}} Prometheus"
                ),
                Query(
                    f"max by (instance) ({names.of(family_names.SCRAPE_DURATION)})",
                    "{{instance}} application",
                ),
            ),
        ),
        Panel(
            title="Series by instance",
            description="Samples in a scrape. A number that rises without end is a label whose values never"
            " end: see the next panel, and 'web-prom check'.",
            unit="short",
            queries=(Query(names.of(family_names.SCRAPE_SERIES), "{{instance}}"),),
        ),
        Panel(
            title="Values counted under _overflow",
            description="Observations of label sets beyond the limit, by family. Above 0: a label has too "
            "many values, for example an id in a route. Nothing is lost, but these are counted together.",
            unit="ops",
            limits=Limits(0.001, 1),
            queries=(Query(names.sum_rate(conventions.LABEL_OVERFLOW.name, by="family"), "{{family}}"),),
        ),
        Panel(
            title="Faults of the measurement",
            description="Values that could not be stored, files that could not be read, and errors in the "
            "instrumentation. Each is 0 in a healthy service. The log says more.",
            unit="short",
            limits=Limits(0.001, 1),
            queries=(
                Query(f"sum({names.of(family_names.STORAGE_ERRORS)})", "values not stored"),
                Query(f"sum({names.of(family_names.DAMAGED_FILES)})", "damaged files"),
                Query(f"sum({names.of(conventions.ERRORS.name)})", "errors of the instrumentation"),
            ),
        ),
    )
