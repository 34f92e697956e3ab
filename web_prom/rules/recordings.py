"""Rules that record the sums of all replicas."""

from __future__ import annotations

from web_prom.rules.model import Group, Recording
from web_prom.rules.names import Names

REQUESTS = "job:http_requests:rate5m"
ERRORS = "job:http_requests_errors:rate5m"
ERROR_RATIO = "job:http_requests_errors:ratio_rate5m"
DURATION_BUCKETS = "job_le:http_request_duration_seconds_bucket:rate5m"
"""Series that the alerts use. Their names are the same under each naming."""


def groups(names: Names) -> list[Group]:
    """Return the groups. Series by route have the naming's own labels, which their names begin with."""
    return [
        Group("web-prom-requests", tuple(_requests(names))),
        Group("web-prom-duration", tuple(_durations(names))),
        Group(
            "web-prom-series",
            (
                Recording(
                    "job:scrape_samples_scraped:sum",
                    f"sum by (job) ({names.plain('scrape_samples_scraped')})",
                ),
            ),
        ),
    ]


def _requests(names: Names) -> list[Recording]:
    labels = (names.method, names.route, names.status)
    detailed = f"job_{'_'.join(labels)}:http_requests:rate5m"
    found = [
        Recording(detailed, f"sum by (job, {', '.join(labels)}) (rate({names.of(names.requests)}[5m]))"),
        Recording(f"job_{names.route}:http_requests:rate5m", f"sum by (job, {names.route}) ({detailed})"),
        Recording(REQUESTS, f"sum by (job) ({detailed})"),
        # 0 and not nothing, where there was no error.
        Recording(ERRORS, f'sum by (job) ({detailed}{{{names.status}=~"5.."}})\nor 0 * {REQUESTS}'),
        Recording(ERROR_RATIO, f"{ERRORS} / {REQUESTS}"),
    ]
    exceptions, exception_labels = names.exceptions, names.exceptions_labels()
    if exceptions is not None and exception_labels:
        found.append(
            Recording(
                f"job_{'_'.join(exception_labels)}:http_request_exceptions:rate5m",
                f"sum by (job, {', '.join(exception_labels)}) (rate({names.of(exceptions)}[5m]))",
            )
        )
    found.append(
        Recording("job:http_requests_in_progress:sum", f"sum by (job) ({names.of(names.naming.in_progress)})")
    )
    return found


def _durations(names: Names) -> list[Recording]:
    route, spec = names.duration_route, names.naming.duration

    def summed(part: str) -> str:
        return f"sum by (job, {route}) (rate({names.of(spec, part=part)}[5m]))"

    by_route = f"job_{route}_le:http_request_duration_seconds_bucket:rate5m"
    return [
        Recording(by_route, f"sum by (job, {route}, le) (rate({names.of(spec, part='_bucket')}[5m]))"),
        Recording(
            f"job_{route}:http_request_duration_seconds:mean5m", f"{summed('_sum')}\n/ {summed('_count')}"
        ),
        Recording(
            f"job_{route}:http_request_duration_seconds:p95_5m", f"histogram_quantile(0.95, {by_route})"
        ),
        Recording(DURATION_BUCKETS, f"sum by (job, le) ({by_route})"),
        Recording(
            "job:http_request_duration_seconds:p95_5m", f"histogram_quantile(0.95, {DURATION_BUCKETS})"
        ),
    ]
