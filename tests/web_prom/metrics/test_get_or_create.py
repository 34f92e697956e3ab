"""One definition for each metric name: get_or_create."""

from __future__ import annotations

import importlib.util
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    Summary,
    values,
)
from prometheus_client.metrics import MetricWrapperBase

from tests.web_prom.support import samples
from web_prom import get_or_create
from web_prom.errors import ConflictError, WebPromError

KINDS: list[tuple[type[MetricWrapperBase], dict[str, Any]]] = [
    (Counter, {}),
    (Gauge, {"multiprocess_mode": "livesum"}),
    (Histogram, {"buckets": (1, 2.5, 10)}),
    (Summary, {}),
    (Info, {}),
    (Enum, {"states": ["a", "b"]}),
]


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("labels", [(), ("site",), ("site", "zone")])
def test_get_or_create_returns_the_same_metric_for_the_same_definition(
    kind: type[MetricWrapperBase],
    options: dict[str, Any],
    labels: tuple[str, ...],
    registry: CollectorRegistry,
) -> None:
    made = get_or_create(kind, "shop_thing", "Help.", labels, registry=registry, **options)
    assert type(made) is kind
    assert get_or_create(kind, "shop_thing", "Help.", list(labels), registry=registry, **options) is made
    assert len(registry._collector_to_names) == 1


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_get_or_create_finds_a_metric_of_the_registry(
    kind: type[MetricWrapperBase], options: dict[str, Any], registry: CollectorRegistry
) -> None:
    made = kind("shop_thing", "Help.", ["site"], registry=registry, **options)
    assert get_or_create(kind, "shop_thing", "Help.", ["site"], registry=registry, **options) is made


@pytest.mark.parametrize(
    ("kind", "options"),
    [entry for entry in KINDS if entry[0] not in (Info, Enum)],
    ids=str,
)
def test_get_or_create_name_contains_namespace_subsystem_and_unit(
    kind: type[MetricWrapperBase], options: dict[str, Any], registry: CollectorRegistry
) -> None:
    options = {**options, "namespace": "shop", "subsystem": "cart", "unit": "bytes"}
    made = get_or_create(kind, "weight", "Help.", registry=registry, **options)
    assert made._name == "shop_cart_weight_bytes"
    assert get_or_create(kind, "weight", "Help.", registry=registry, **options) is made
    assert get_or_create(kind, "weight_bytes", "Help.", registry=registry, **options) is made


@pytest.mark.parametrize("first", ["orders", "orders_total"])
@pytest.mark.parametrize("second", ["orders", "orders_total"])
def test_get_or_create_counter_with_and_without_total(
    first: str, second: str, registry: CollectorRegistry
) -> None:
    made = get_or_create(Counter, first, "Help.", registry=registry)
    assert get_or_create(Counter, second, "Help.", registry=registry) is made
    made.inc()
    assert registry.get_sample_value("orders_total") == 1


def test_get_or_create_with_and_without_the_infinity_bucket(registry: CollectorRegistry) -> None:
    made = get_or_create(Histogram, "h", "Help.", registry=registry, buckets=[1, 2])
    assert get_or_create(Histogram, "h", "Help.", registry=registry, buckets=("1", 2.0, math.inf)) is made


def test_get_or_create_default_options_equal_explicit_ones(registry: CollectorRegistry) -> None:
    histogram = get_or_create(Histogram, "h", "Help.", registry=registry)
    same = get_or_create(
        Histogram, "h", "Help.", registry=registry, buckets=Histogram.DEFAULT_BUCKETS, unit=""
    )
    gauge = get_or_create(Gauge, "g", "Help.", registry=registry)
    assert same is histogram
    assert (
        get_or_create(Gauge, "g", "Help.", registry=registry, multiprocess_mode="all", subsystem="") is gauge
    )


class OwnBuckets(Histogram):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"buckets": (1, 2, 5), **options})


class UnusedBuckets(Histogram):
    """prometheus_client does not read the attribute of a subclass."""

    DEFAULT_BUCKETS: Any = (1, 2)


class OwnMode(Gauge):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"multiprocess_mode": "livesum", **options})


class OwnStates(Enum):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"states": ["up", "down"], **options})


class OwnName(Summary):
    def __init__(self, name: str, documentation: str, labelnames: Any = (), **options: Any) -> None:
        super().__init__(f"own_{name}", f"{documentation}.", labelnames, unit="seconds", **options)


class OwnLabels(Counter):
    def __init__(self, name: str, documentation: str, labelnames: Any = (), **options: Any) -> None:
        super().__init__(name, documentation, labelnames or ("tenant",), **options)


class SetAtStart(Gauge):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if not options.get("_labelvalues") and not arguments[2]:
            self.set(1)


@pytest.mark.parametrize("labels", [(), ("site",)], ids=str)
@pytest.mark.parametrize(
    "kind", [OwnBuckets, UnusedBuckets, OwnMode, OwnStates, OwnName, OwnLabels, SetAtStart]
)
def test_get_or_create_accepts_a_subclass_with_defaults_of_its_own(
    kind: type[MetricWrapperBase], labels: tuple[str, ...], registry: CollectorRegistry
) -> None:
    made = get_or_create(kind, "x", "Help.", labels, registry=registry)
    assert type(made) is kind
    assert get_or_create(kind, "x", "Help.", labels, registry=registry) is made
    other = CollectorRegistry()
    direct = kind("x", "Help.", labels, registry=other)
    assert get_or_create(kind, "x", "Help.", labels, registry=other) is direct


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (OwnBuckets, {"buckets": Histogram.DEFAULT_BUCKETS}),
        (UnusedBuckets, {"buckets": UnusedBuckets.DEFAULT_BUCKETS}),
        (OwnMode, {"multiprocess_mode": "all"}),
    ],
    ids=str,
)
def test_get_or_create_conflict_with_the_defaults_of_a_subclass(
    kind: type[MetricWrapperBase], options: dict[str, Any], registry: CollectorRegistry
) -> None:
    get_or_create(kind, "x", "Help.", registry=registry)
    with pytest.raises(ConflictError):
        get_or_create(kind, "x", "Help.", registry=registry, **options)


def test_get_or_create_accepts_options_that_can_be_read_once(registry: CollectorRegistry) -> None:
    made = get_or_create(Histogram, "x", "Help.", registry=registry, buckets=iter([1, 2]))
    assert get_or_create(Histogram, "x", "Help.", registry=registry, buckets=iter([1, 2])) is made


def test_get_or_create_makes_no_values_for_an_existing_metric(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With shared values, they would be in the files."""
    made = get_or_create(Gauge, "x", "Help.", registry=registry)

    def refuse(*arguments: Any, **options: Any) -> Any:
        pytest.fail("a value is made")

    monkeypatch.setattr(values, "ValueClass", refuse)
    assert get_or_create(Gauge, "x", "Help.", registry=registry) is made
    with pytest.raises(ConflictError):
        get_or_create(Counter, "x", "Help.", registry=registry)


Make = Callable[[CollectorRegistry], Any]

DIFFERENT: dict[str, tuple[Make, Make, str, str]] = {
    "type": (
        lambda r: get_or_create(Counter, "x", "Help.", registry=r),
        lambda r: get_or_create(Gauge, "x", "Help.", registry=r),
        "counter(",
        "gauge(",
    ),
    "help": (
        lambda r: get_or_create(Counter, "x", "One.", registry=r),
        lambda r: get_or_create(Counter, "x", "Two.", registry=r),
        "One.",
        "Two.",
    ),
    "labels": (
        lambda r: get_or_create(Counter, "x", "Help.", ["a"], registry=r),
        lambda r: get_or_create(Counter, "x", "Help.", ["a", "b"], registry=r),
        "('a',)",
        "('a', 'b')",
    ),
    "order of labels": (
        lambda r: get_or_create(Counter, "x", "Help.", ["a", "b"], registry=r),
        lambda r: get_or_create(Counter, "x", "Help.", ["b", "a"], registry=r),
        "('a', 'b')",
        "('b', 'a')",
    ),
    "buckets": (
        lambda r: get_or_create(Histogram, "x", "Help.", registry=r, buckets=[1, 2]),
        lambda r: get_or_create(Histogram, "x", "Help.", registry=r, buckets=[1, 3]),
        "[1.0, 2.0, inf]",
        "[1.0, 3.0, inf]",
    ),
    "unit": (
        lambda r: get_or_create(Gauge, "x_bytes", "Help.", registry=r, unit="bytes"),
        lambda r: get_or_create(Gauge, "x_bytes", "Help.", registry=r),
        "unit='bytes'",
        "gauge(name='x_bytes'",
    ),
    "mode": (
        lambda r: get_or_create(Gauge, "x", "Help.", registry=r, multiprocess_mode="max"),
        lambda r: get_or_create(Gauge, "x", "Help.", registry=r, multiprocess_mode="min"),
        "multiprocess_mode='max'",
        "multiprocess_mode='min'",
    ),
    "states": (
        lambda r: get_or_create(Enum, "x", "Help.", registry=r, states=["a", "b"]),
        lambda r: get_or_create(Enum, "x", "Help.", registry=r, states=["b", "a"]),
        "['a', 'b']",
        "['b', 'a']",
    ),
    "a name that another makes of its own": (
        lambda r: get_or_create(Counter, "x", "Help.", registry=r),
        lambda r: get_or_create(Gauge, "x_total", "Help.", registry=r),
        "counter(name='x'",
        "gauge(name='x_total'",
    ),
    "a name that it makes of its own": (
        lambda r: get_or_create(Gauge, "x_count", "Help.", registry=r),
        lambda r: get_or_create(Histogram, "x", "Help.", registry=r),
        "gauge(name='x_count'",
        "histogram(name='x'",
    ),
}


@pytest.mark.parametrize("aspect", DIFFERENT)
def test_get_or_create_conflict_shows_both_definitions_and_locations(
    aspect: str, registry: CollectorRegistry
) -> None:
    first, second, shown_first, shown_second = DIFFERENT[aspect]
    made = first(registry)
    with pytest.raises(ConflictError) as raised:
        second(registry)
    message = str(raised.value)
    assert shown_first in message
    assert shown_second in message
    assert message.count(f"{Path(__file__).name}:{first.__code__.co_firstlineno}") == 1, message
    assert message.count(f"{Path(__file__).name}:{second.__code__.co_firstlineno}") == 1, message
    assert list(registry._collector_to_names) == [made], "the first stays, and no half of the second"


def test_conflict_error_is_a_value_error() -> None:
    assert issubclass(ConflictError, ValueError)
    assert issubclass(ConflictError, WebPromError)


def test_get_or_create_conflict_with_a_metric_of_unknown_location(
    registry: CollectorRegistry,
) -> None:
    Counter("x", "Theirs.", registry=registry)
    with pytest.raises(ConflictError, match=r"(?s)Theirs\..*an unknown location.*Ours\."):
        get_or_create(Counter, "x", "Ours.", registry=registry)


def test_get_or_create_conflict_with_a_custom_collector_names_its_class(
    registry: CollectorRegistry,
) -> None:
    class Custom:
        def describe(self) -> Any:
            return Gauge("x", "Help.", registry=None).describe()

        def collect(self) -> Any:
            return []

    registry.register(Custom())
    with pytest.raises(ConflictError, match="Custom"):
        get_or_create(Gauge, "x", "Help.", registry=registry)


@pytest.mark.parametrize(
    ("name", "options"),
    [("", {}), ("x", {"multiprocess_mode": "no_such_mode"})],
)
def test_get_or_create_raises_the_errors_of_prometheus_client(
    name: str, options: dict[str, Any], registry: CollectorRegistry
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is prometheus_client's
        get_or_create(Gauge, name, "Help.", registry=registry, **options)
    assert not registry._collector_to_names


def test_get_or_create_raises_for_an_invalid_label(registry: CollectorRegistry) -> None:
    with pytest.raises(ValueError, match="le"):
        get_or_create(Histogram, "x", "Help.", ["le"], registry=registry)
    assert not registry._collector_to_names


def test_get_or_create_in_two_registries(registry: CollectorRegistry) -> None:
    other = CollectorRegistry()
    one = get_or_create(Counter, "x", "Help.", registry=registry)
    two = get_or_create(Counter, "x", "Other.", registry=other)
    assert one is not two


def test_get_or_create_default_registry() -> None:
    made = get_or_create(Counter, "web_prom_test_default_registry", "Help.")
    try:
        assert REGISTRY._names_to_collectors["web_prom_test_default_registry"] is made
    finally:
        REGISTRY.unregister(made)


def test_get_or_create_after_unregister_creates_a_new_metric(registry: CollectorRegistry) -> None:
    made = get_or_create(Counter, "x", "Help.", registry=registry)
    registry.unregister(made)
    again = get_or_create(Counter, "x", "Other.", registry=registry)
    assert again is not made
    assert registry._names_to_collectors["x"] is again


def test_fault_14_module_imported_under_two_names_has_one_metric(
    tmp_path: Path, registry: CollectorRegistry
) -> None:
    path = tmp_path / "metrics.py"
    path.write_text(
        "from prometheus_client import Counter\n"
        "from web_prom import get_or_create\n"
        "def make(registry):\n"
        "    return get_or_create(Counter, 'orders', 'Orders.', ['site'], registry=registry)\n"
    )
    made = []
    for name in ("shop.metrics", "metrics"):
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        counter = module.make(registry)
        counter.labels("a").inc()
        made.append(counter)
    assert made[0] is made[1]
    assert samples(registry, "orders_total", "site") == {("a",): 2}


def test_get_or_create_with_threads_creates_one_metric(registry: CollectorRegistry) -> None:
    start = threading.Barrier(8)
    made: list[Counter] = []

    def make() -> None:
        start.wait()
        made.append(get_or_create(Counter, "x", "Help.", registry=registry))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1
