"""One branch of the shop. It has computed quotes, and exposes how long they took.

::

    python -m guide.branch north 8001     # 900 quotes, all below a tenth of a second
    python -m guide.branch south 8002     # 100 quotes, between 1.5 and 2.5 seconds

The durations are invented, not measured, so that the correct results are known: of all 1,000 quotes, 5 % took
longer than 2 seconds, and the mean is 0.241045 seconds.
"""

import signal
import sys

from prometheus_client import Gauge, Histogram, Summary

from web_prom import start_http_server

HISTOGRAM = Histogram(
    "shop_quote_seconds",
    "Seconds that a quote took.",
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5),
)
SUMMARY = Summary("shop_quote_summary_seconds", "The same, as a Summary.")
# prometheus_client's Summary has no quantiles. Clients of other languages compute them like this.
P95 = Gauge("shop_quote_p95_seconds", "What 95 % of this branch's quotes took at most, in seconds.")

SECONDS = {
    "north": [number / 10_000 for number in range(1, 901)],
    "south": [(150 + number) / 100 for number in range(1, 101)],
}


def main() -> None:
    branch, port = sys.argv[1], int(sys.argv[2])
    for seconds in SECONDS[branch]:
        HISTOGRAM.observe(seconds)
        SUMMARY.observe(seconds)
    P95.set(sorted(SECONDS[branch])[len(SECONDS[branch]) * 95 // 100 - 1])
    start_http_server(port, addr="127.0.0.1")
    signal.sigwait([signal.SIGTERM, signal.SIGINT])


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
    main()
