"""The metrics of the jobs, for Celery and RQ, and the port that answers scrapes."""

from collections.abc import Iterator, Mapping
from time import perf_counter

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobs.settings import METRICS_PORT, REDIS_URL
from web_prom import start_http_server

# Both labels have few values: the functions of tasks.py, and success, failure, retry, lost.
JOBS = Counter("jobs", "Jobs that came to an end, by which.", ["job", "outcome"])
# Jobs take longer than requests.
SECONDS = Histogram("job_duration_seconds", "Seconds that a job ran.", ["job"], buckets=(0.1, 1, 10, 60, 600))
# "livesum": the job of a killed process does not stay in the sum.
RUNNING = Gauge("jobs_running", "Jobs that run now.", multiprocess_mode="livesum")


def begin() -> float:
    """Count a job as running, and return its start time."""
    RUNNING.inc()
    return perf_counter()


def end(job: str, outcome: str, begun: float) -> None:
    """Count a job that ended in this process."""
    RUNNING.dec()
    SECONDS.labels(job).observe(perf_counter() - begun)
    JOBS.labels(job, outcome).inc()


def lose(job: str) -> None:
    """Count a job whose process was killed. Another process calls this."""
    JOBS.labels(job, "lost").inc()


class QueueDepth:
    """Collects the number of waiting jobs from Redis at each scrape.

    A gauge that the jobs set would not change while the workers hang. This collector runs in the process that
    answers the scrape, in its own thread. If Redis is down, only this metric is missing from the scrape.
    """

    def __init__(self, url: str, keys: Mapping[str, str]) -> None:
        # Shorter than PROM_COLLECTOR_TIMEOUT. Otherwise the log only says that the collector is late.
        once = Retry(NoBackoff(), 0)
        self._redis = Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2, retry=once)
        self._keys = keys

    def describe(self) -> list[GaugeMetricFamily]:
        """Return no family. Otherwise the registration would call collect()."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        depth = GaugeMetricFamily("job_queue_depth", "Jobs that wait for a worker.", labels=["queue"])
        for queue, key in self._keys.items():
            depth.add_metric([queue], float(self._redis.llen(key)))
        yield depth


def serve(keys: Mapping[str, str]) -> None:
    """Answer scrapes. Call it once, in the process that starts all others.

    Args:
        keys: The Redis list of each queue, by the queue's name.
    """
    REGISTRY.register(QueueDepth(REDIS_URL, keys))
    start_http_server(METRICS_PORT)
