"""Custom collectors that yield something that is not a family, or that cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.web_prom.exposition.workers import CUSTOM
from tests.web_prom.multiprocess.test_many_processes import VARIABLE, Scrape, run

pytestmark = pytest.mark.slow  # the tests start processes

ODD = """
from web_prom import make_wsgi_app

def odd(**attributes):
    family = GaugeMetricFamily("odd", "Help.", value=1)
    vars(family).update(attributes)
    return family

class Raising:
    @property
    def name(self):
        raise SystemExit("hush")

KINDS = {
    "none": [None],
    "text": ["odd"],
    "no_name": [odd(name=None)],
    "no_type": [odd(type=None)],
    "unhashable_name": [odd(name=["odd"])],
    "unhashable_type": [odd(type=["gauge"])],
    "no_samples": [odd(samples=None)],
    "foreign_samples": [odd(samples=[1])],
    "one_shot_samples": [odd(samples=iter(odd().samples))],
    "part_without_samples": [odd(samples=None), odd()],
    "parts_with_foreign_samples": [odd(), odd(samples=[1])],
    "value": [odd(samples=[odd().samples[0]._replace(value="x")])],
    "raising": [Raising()],
}

class Odd(Broken): pass

for kind, families in KINDS.items():
    each = CollectorRegistry()
    Counter(f"shop_{kind}", "Orders.", registry=each).inc(5)
    each.register(Odd(lambda: [*families, GaugeMetricFamily(f"after_{kind}", "Help.", value=1)]))
    each.register(Custom(names=[f"other_{kind}"]))
    exposed = make_wsgi_app(each)
    for _ in range(2):
        text = scrape(exposed, HTTP_ACCEPT=os.environ["ACCEPT"])
    for line in f"shop_{kind}_total 5.0", "before 1.0", f"after_{kind} 1.0", f"other_{kind} 2.0":
        assert f"\\n{line}\\n" in text, (kind, line, text)
    assert "odd" not in text, (kind, text)
    assert 'web_prom_instrumentation_errors_total{stage="collector Odd"}' in text, (kind, text)
"""


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
@pytest.mark.parametrize("shared", [False, True])
def test_odd_family_is_missing_alone_and_counted(tmp_path: Path, accept: str, shared: bool) -> None:
    environ = {VARIABLE: str(tmp_path)} if shared else {}
    run(CUSTOM + ODD, ACCEPT=accept, **environ)


@pytest.mark.parametrize("shared", [False, True])
def test_odd_family_is_missing_from_a_scrape_with_names(tmp_path: Path, shared: bool) -> None:
    environ = {VARIABLE: str(tmp_path)} if shared else {}
    text = run(
        CUSTOM
        + """
class Odd(Broken): pass
registry = CollectorRegistry()
registry.register(Odd(lambda: [None, GaugeMetricFamily("after", "Help.", value=1)]))
print(scrape(PrometheusMiddleware(app, registry=registry), QUERY_STRING="name[]=after&name[]=before"))
""",
        **environ,
    )
    assert Scrape(text).values == {"before": 1, "after": 1}
