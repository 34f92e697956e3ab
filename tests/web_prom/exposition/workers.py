"""Scrapes in a new process that shares a directory, with some custom collectors."""

from __future__ import annotations

from pathlib import Path

from tests.web_prom.multiprocess.test_many_processes import VARIABLE, Scrape, run

# A custom collector whose value is the number of its calls.
CUSTOM = """
from prometheus_client import Enum, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

class Custom:
    def __init__(self, *families, names=("shop_queue",)):
        self.runs, self.names = 0, names
    def describe(self):
        return []  # the default registry would collect to learn the names
    def collect(self):
        self.runs += 1
        for name in self.names:
            yield GaugeMetricFamily(name, "Help.", value=self.runs)

class Broken:
    def __init__(self, how): self.how = how
    def describe(self): return []
    def collect(self):
        yield GaugeMetricFamily("before", "Help.", value=1)
        yield from self.how()

logging.basicConfig(stream=sys.stderr)
log = logging.getLogger("web_prom")
"""


def scraped(code: str, tmp_path: Path, **environ: str) -> Scrape:
    return Scrape(run(CUSTOM + code, **{VARIABLE: str(tmp_path)}, **environ))
