"""The children of metrics, their labels, and what a scrape reads of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from types import MethodType
from typing import Any

from prometheus_client import Counter, Enum, Gauge, Histogram, Summary
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from web_prom.upstream.checks import PROBE, checked
from web_prom.upstream.value_class import throwaway_values
from web_prom.upstream.values import has_numbers, has_values

Getter = Callable[[Any], Any]


def family_of(metric: MetricWrapperBase) -> Metric:
    """Return the name, the help, the type and the unit of a metric, as a family without samples."""
    (family,) = MetricWrapperBase.describe(metric)  # whatever a subclass describes
    return family


# Labels and children ---------------------------------------------------------------------------------

label_names: Getter = attrgetter("_labelnames")
"""Return the names of a metric's labels: after :func:`has_children`."""

label_values: Getter = attrgetter("_labelvalues")
"""Return the values of a child's labels: after :func:`has_children`."""

children_lock: Getter = attrgetter("_lock")
"""Return the lock of a metric's children: after :func:`has_removal`."""

multiprocess_mode: Getter = attrgetter("_multiprocess_mode")
"""Return the mode of a gauge: after :func:`has_removal`."""

children_by_values: Getter = attrgetter("_metrics")
"""Return a metric's children by the values of their labels: after :func:`has_removal`, under the lock."""


@checked("children of metrics", "scrapes take longer")
def has_children() -> bool:
    """Check the children of metrics and their labels. Without it, metrics are scraped by ``collect()``."""
    with throwaway_values():
        metric = Counter(PROBE, "", ["a"], registry=None)
        child, plain = metric.labels("x"), Counter(PROBE, "", registry=None)
    return [_children_of(each) for each in (metric, child, plain)] == [[child], [child], [plain]] and (
        label_names(metric),
        label_values(child),
        label_values(metric),
    ) == (("a",), ("x",), ())


def children_of(metric: Any) -> list[Any]:
    """Return the children of a metric, or a metric without labels itself.

    It takes no lock: ``labels()`` holds the metric's lock while it makes a child, whose first value may
    switch this process to shared values. If :func:`has_children` fails, all attributes are searched.
    """
    return _children_of(metric) if has_children() else _search_children(metric)


def _children_of(metric: Any) -> list[Any]:
    return list(metric._metrics.values()) if is_parent(metric) else [metric]


def _search_children(metric: Any) -> list[Any]:
    mappings = [each for each in vars(metric).values() if isinstance(each, dict)]
    children = [
        child for each in mappings for child in list(each.values()) if isinstance(child, type(metric))
    ]
    if children or not any(family.samples for family in metric.collect()):
        return children
    return [metric]


@checked("methods to remove children", "label sets cannot be removed from value files", needs=(has_children,))
def has_removal() -> bool:
    """Check what removes children. Without it, prometheus_client's methods leave them in value files."""
    with throwaway_values():
        metric = Counter(PROBE, "", ["a"], registry=None)
        child, gauge = metric.labels("x"), Gauge(PROBE, "", registry=None, multiprocess_mode="max")
    with children_lock(metric):
        known, taken = children_by_values(metric), take_children(metric)
    removed = taken == [child] and known == {("x",): child} and not _children_of(metric)
    return removed and bool(multiprocess_mode(gauge) == "max")


def take_children(metric: Any) -> list[Any]:
    """Remove all children of a metric, and return them: after :func:`has_removal`, under the lock."""
    children, metric._metrics = metric._metrics, {}
    return list(children.values())


def is_parent(metric: Any) -> bool:
    """Return whether a metric has children, and no value of its own: after :func:`has_children`."""
    return bool(metric._is_parent())


# What a metric was made with -------------------------------------------------------------------------

_OPTIONS: dict[type, tuple[str, str]] = {
    Histogram: ("buckets", "_upper_bounds"),
    Gauge: ("multiprocess_mode", "_multiprocess_mode"),
    Enum: ("states", "_states"),
}


@checked("options of metrics", "two definitions of one metric may differ in them without an error")
def has_options() -> bool:
    """Check :func:`options_of`. Without it, what a type adds to a definition is not compared."""
    with throwaway_values():
        histogram = Histogram(PROBE, "", registry=None, buckets=(1,))
        gauge = Gauge(PROBE, "", registry=None, multiprocess_mode="max")
        enum = Enum(PROBE, "", registry=None, states=["a"])
    return [_options_of(each) for each in (histogram, gauge, enum)] == [
        {"buckets": [1.0, float("inf")]},
        {"multiprocess_mode": "max"},
        {"states": ["a"]},
    ]


def options_of(metric: Any) -> dict[str, Any]:
    """Return what the type of a metric adds to its definition; nothing if :func:`has_options` fails."""
    return _options_of(metric) if has_options() else {}


def _options_of(metric: Any) -> dict[str, Any]:
    found = {}
    for kind, (option, attribute) in _OPTIONS.items():
        if isinstance(metric, kind):
            value = getattr(metric, attribute)
            found[option] = value if isinstance(value, str) else list(value)
    return found


# Callbacks of gauges ---------------------------------------------------------------------------------

_CALLBACK = "_child_samples"


@checked("callbacks of gauges", "scrapes of shared values take longer")
def has_callbacks() -> bool:
    """Check where ``Gauge.set_function`` puts a callback. Without it, all attributes are searched."""
    with throwaway_values():
        gauge = Gauge(PROBE, "", registry=None)
    gauge.set(1)
    gauge.set_function(lambda: 2.0)
    if not (_CALLBACK in vars(gauge) and own_samples(gauge)[0].value == 2.0):
        return False
    del vars(gauge)[_CALLBACK]
    (family,) = gauge.collect()
    return family.samples[0].value == 1.0


def has_callback(gauge: Any) -> bool:
    """Return whether ``Gauge.set_function`` was called for a gauge, or for its child."""
    return _callback_name(gauge) is not None


def callback_value(gauge: Any) -> float:
    """Return what the callback of a gauge, or of its child, gives now.

    Raises:
        Exception: What the callback raises.
    """
    (sample,) = getattr(gauge, _callback_name(gauge) or _CALLBACK)()
    return float(sample[2])


def remove_callback(gauge: Any) -> None:
    """Have a gauge, or its child, show its own number again; nothing happens if it has no callback."""
    name = _callback_name(gauge)
    if name is not None:
        del vars(gauge)[name]


def _callback_name(gauge: Any) -> str | None:
    """Return the attribute that has the callback, or None.

    If :func:`has_callbacks` fails, it is a method of the gauge that its class has not put there.
    """
    attributes = vars(gauge)
    if has_callbacks():
        return _CALLBACK if _CALLBACK in attributes else None
    methods = [name for name, each in attributes.items() if isinstance(each, MethodType)]
    return next((name for name in methods if attributes[name].__self__ is gauge), None)


# What a scrape reads ---------------------------------------------------------------------------------

CREATED = "_created"
"""The suffix of the sample that says when a child was created, and the attribute that has it."""

created_at: Getter = attrgetter(CREATED)
"""Return when a child was created: after :func:`has_samples`."""

upper_bounds: Getter = attrgetter("_upper_bounds")
"""Return the upper bounds of a histogram's buckets: after :func:`has_samples`."""

buckets_of: Getter = attrgetter("_buckets")
"""Return the values of a histogram's buckets: after :func:`has_samples`."""

SAMPLE_VALUES: Mapping[type, Mapping[str, Getter]] = {
    Counter: {"_total": attrgetter("_value")},
    Gauge: {"": attrgetter("_value")},
    Summary: {"_count": attrgetter("_count"), "_sum": attrgetter("_sum")},
    Histogram: {"_sum": attrgetter("_sum")},
}
"""Gets the value of a child's sample, by the class of the metric and the suffix: after :func:`has_samples`.

Buckets are not in it.
"""

samples_function: Getter = attrgetter("_child_samples.__func__")
"""Return the function that makes a child's samples, its class's or its own: after :func:`has_samples`."""

# What makes the samples of a metric.
_METHODS = ("collect", "_samples", "_multi_samples", "_child_samples", "_get_metric", "_is_parent")
# A gauge's callback replaces the other one, which is looked at with each child.
_OWN = frozenset(_METHODS) - {_CALLBACK}


@checked(
    "samples of metrics", "scrapes take longer", needs=(has_children, has_values, has_numbers, has_callbacks)
)
def has_samples() -> bool:
    """Check what a scrape reads of children. Without it, metrics are scraped by ``collect()``."""
    with throwaway_values():
        metrics = [kind(PROBE, "", registry=None) for kind in SAMPLE_VALUES]
    histogram = metrics[-1]
    number_of_buckets = len(Histogram.DEFAULT_BUCKETS)
    return (
        all(map(_samples_are_read, metrics))
        and list(upper_bounds(histogram)) == list(Histogram.DEFAULT_BUCKETS)
        and len(buckets_of(histogram)) == number_of_buckets
    )


def _samples_are_read(metric: Any) -> bool:
    kind = type(metric)
    (family,) = metric.collect()
    samples = child_samples(metric)
    values = {suffix: value(metric).get() for suffix, value in SAMPLE_VALUES[kind].items()}
    expected = {suffix: sample.value for suffix, sample in _by_suffix(family).items() if suffix in values}
    return (
        is_unmodified(metric)
        and samples_function(metric) is class_samples_function(kind)
        and [family.name + sample[0] for sample in samples] == [sample.name for sample in family.samples]
        and [sample[2] for sample in samples] == [sample.value for sample in family.samples]
        and values == expected
        and (kind is Gauge or _by_suffix(family).get(CREATED, samples[-1])[2] in (created_at(metric), 0.0))
    )


def _by_suffix(family: Metric) -> dict[str, Any]:
    return {sample.name.removeprefix(family.name): sample for sample in family.samples}


def child_samples(child: Any) -> list[Any]:
    """Return the samples of a child as the method of its class makes them, without its labels."""
    return list(class_samples_function(type(child))(child))


def class_samples_function(kind: Any) -> Any:
    """Return the function that makes the samples of the children of a class."""
    return kind._child_samples


def own_samples(child: Any) -> list[Any]:
    """Return the samples of a child as its own method makes them: for a gauge, what its callback gives."""
    return list(child._child_samples())


def is_unmodified(metric: Any) -> bool:
    """Return whether the methods that make a metric's samples are those of prometheus_client's class.

    Call it after :func:`has_samples`. A subclass may have other methods, and so may a single metric.
    """
    kind = type(metric)
    methods = [getattr(kind, name) for name in _METHODS]
    return vars(metric).keys().isdisjoint(_OWN) and all(
        method.__module__ == kind.__module__ for method in methods
    )
