"""A nightly job that reports its result: in a text file, at the Pushgateway, or in a shared directory.

``--help`` lists the three options. docs/how-to/jobs.rst compares them. The exit code is 1 if the job failed.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import traceback
from functools import partial
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    delete_from_gateway,
    pushadd_to_gateway,
    write_to_textfile,
)

from web_prom import share_values

# RUN has the metrics of every run. Only a successful run replaces those in SUCCESS.
RUN, SUCCESS = CollectorRegistry(), CollectorRegistry()
# The mode only has an effect in a shared directory: the value that was set last counts.
LatestGauge = partial(Gauge, multiprocess_mode="mostrecent")
ENDED = LatestGauge("nightly_last_run_timestamp_seconds", "When the last run ended.", registry=RUN)
SECONDS = LatestGauge("nightly_duration_seconds", "Seconds that the last run took.", registry=RUN)
FAILED = LatestGauge("nightly_failed", "1 if the last run failed, else 0.", registry=RUN)
SUCCEEDED = LatestGauge(
    "nightly_last_success_timestamp_seconds", "When the last run ended that succeeded.", registry=SUCCESS
)
PRODUCTS = LatestGauge("nightly_products", "Products in the catalogue.", registry=SUCCESS)
# Only useful in a shared directory: without one, nothing adds up the runs, and each process counts to one.
RUNS = Counter("nightly_runs", "Runs that ended, by how.", ["outcome"])

JOB, GROUP = "nightly", {"shop": "teapots"}


def check(catalogue: Path) -> int:
    """Do the job: return the number of products."""
    with catalogue.open(newline="") as file:
        return len(list(csv.DictReader(file)))


def run(catalogue: Path) -> bool:
    """Run the job, set its metrics, and return whether it succeeded."""
    started = time.perf_counter()
    try:
        PRODUCTS.set(check(catalogue))
    except Exception:
        traceback.print_exc()
        succeeded = False
    else:
        SUCCEEDED.set_to_current_time()
        succeeded = True
    SECONDS.set(time.perf_counter() - started)
    ENDED.set_to_current_time()
    FAILED.set(not succeeded)
    RUNS.labels("success" if succeeded else "failure").inc()
    return succeeded


def write(folder: Path, succeeded: bool) -> None:
    """Write files for node exporter. Each is renamed when it is complete, so it is never read in part."""
    write_to_textfile(str(folder / f"{JOB}.prom"), RUN)
    if succeeded:
        write_to_textfile(str(folder / f"{JOB}_success.prom"), SUCCESS)


def push(gateway: str, succeeded: bool) -> None:
    """Push to the gateway. "add" replaces metrics by name, so a failure does not replace the last success."""
    pushadd_to_gateway(gateway, JOB, RUN, GROUP)
    if succeeded:
        pushadd_to_gateway(gateway, JOB, SUCCESS, GROUP)


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the catalogue.")
    parser.add_argument("catalogue", type=Path)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--textfile", type=Path, metavar="FOLDER", help="the folder that node exporter reads")
    target.add_argument("--pushgateway", metavar="URL")
    target.add_argument("--shared", action="store_true", help="write to PROMETHEUS_MULTIPROC_DIR")
    target.add_argument(
        "--forget", metavar="URL", help="remove from the Pushgateway what a retired job left there"
    )
    options = parser.parse_args()
    if options.forget:
        delete_from_gateway(options.forget, JOB, GROUP)
        return 0
    if options.shared and not share_values(RUN, SUCCESS):
        parser.error("PROMETHEUS_MULTIPROC_DIR is not set, so no process would read these metrics")
    succeeded = run(options.catalogue)
    if options.textfile:
        write(options.textfile, succeeded)
    elif options.pushgateway:
        push(options.pushgateway, succeeded)
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
