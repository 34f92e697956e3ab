"""What is measured of the jobs, whoever runs them, and where it can be scraped."""

from collections.abc import Iterator, Mapping
from time import perf_counter

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobs.settings import METRICS_PORT, REDIS_URL
from web_prom import start_http_server

# Both labels are of short lists: the functions of tasks.py, and success, failure, retry, lost.
JOBS = Counter("jobs", "Jobs that came to an end, by which.", ["job", "outcome"])
# Jobs take longer than requests do.
SECONDS = Histogram("job_duration_seconds", "Seconds that a job ran.", ["job"], buckets=(0.1, 1, 10, 60, 600))
# "livesum": a process that is killed leaves no job behind that seems to run for ever.
RUNNING = Gauge("jobs_running", "Jobs that run now.", multiprocess_mode="livesum")


def begin() -> float:
    """Count a job as running; return when it began."""
    RUNNING.inc()
    return perf_counter()


def end(job: str, outcome: str, begun: float) -> None:
    """Count a job that came to its end in this process."""
    RUNNING.dec()
    SECONDS.labels(job).observe(perf_counter() - begun)
    JOBS.labels(job, outcome).inc()


def lose(job: str) -> None:
    """Count a job whose process was killed under it, which that process cannot do."""
    JOBS.labels(job, "lost").inc()


class QueueDepth:
    """Tells how many jobs wait, by asking Redis at each scrape.

    A gauge that some job sets would stand still just when the workers do. This is asked by the one process
    that answers the scrape, in a thread of its own, and costs its own metric alone if Redis is down.
    """

    def __init__(self, url: str, keys: Mapping[str, str]) -> None:
        # Shorter than PROM_COLLECTOR_TIMEOUT, or the log could tell no more than that it is late.
        once = Retry(NoBackoff(), 0)
        self._redis = Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2, retry=once)
        self._keys = keys

    def describe(self) -> list[GaugeMetricFamily]:
        """Name nothing: otherwise the registry would ask Redis when this is registered."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        depth = GaugeMetricFamily("job_queue_depth", "Jobs that wait for a worker.", labels=["queue"])
        for queue, key in self._keys.items():
            depth.add_metric([queue], float(self._redis.llen(key)))
        yield depth


def serve(keys: Mapping[str, str]) -> None:
    """Answer scrapes; called once, in the process that starts all others.

    Args:
        keys: The Redis list of each queue, by the queue's name.
    """
    REGISTRY.register(QueueDepth(REDIS_URL, keys))
    start_http_server(METRICS_PORT)
