"""The names and labels of series under a naming, limited to jobs."""

from __future__ import annotations

import re

from web_prom.metrics.conventions import NAMINGS, MetricSpec, Naming
from web_prom.rules.model import RuleOptions

_ROUTE = ("route", "template", "view")


class Names:
    """Selectors of the series of one service.

    Args:
        options: What the rules are made for.

    Attributes:
        naming: The naming of the families of requests.
        requests: The family that counts requests by method, route and status. Its name is that of the series.
        exceptions: The family that counts exceptions, or None.
        method, route, status: The labels of ``requests``.
        duration_route: The label of the family of the durations for the route.
    """

    naming: Naming

    def __init__(self, options: RuleOptions) -> None:
        self._options = options
        self._namespace = options.config.namespace
        self._jobs = _job_matcher(options.jobs)
        self.naming = NAMINGS[options.config.naming]
        # Where the counter of requests has no label for the route, the count of the durations has it.
        counted = self.naming.duration
        self.requests = counted._replace(name=f"{counted.name}_count")
        if self.naming.requests is not None and _label(self.naming.requests, *_ROUTE):
            self.requests = _counter(self.naming.requests)
        exceptions = self.naming.exceptions
        self.exceptions = None if exceptions is None else _counter(exceptions)
        self.method = _label(self.requests, "method")
        self.route = _label(self.requests, *_ROUTE)
        self.status = _label(self.requests, "status")
        self.duration_route = _label(self.naming.duration, *_ROUTE)

    def of(self, spec: MetricSpec, *matchers: str, part: str = "") -> str:
        """Return the selector of a family that carries the namespace.

        Args:
            spec: The family. If the naming has another in its place, that is selected.
            *matchers: Further matchers.
            part: The end of the name, for example ``_bucket``.
        """
        spec = self.translated(spec)
        prefix = self._namespace or spec.prefix
        name = f"{prefix}_{spec.name}" if prefix else spec.name
        return self.plain(name + part, *matchers)

    def translated(self, spec: MetricSpec) -> MetricSpec:
        """Return the family that the naming has in the place of another, or the other."""
        translations = self.naming.translations.get(spec.name)
        return translations[0].spec if translations else spec

    def plain(self, name: str, *matchers: str) -> str:
        """Return the selector of a series whose name no naming and no namespace changes."""
        every = ", ".join((*self._jobs, *matchers))
        return f"{name}{{{every}}}" if every else name

    def exceptions_labels(self) -> tuple[str, ...]:
        """Return the labels of the counter of exceptions for the route and the type; empty if it has none."""
        if self.exceptions is None:
            return ()
        labels = (_label(self.exceptions, *_ROUTE), _label(self.exceptions, "exception"))
        return tuple(filter(None, labels))


def string(text: str) -> str:
    """Return a string of PromQL with the text."""
    escapes = {"\\": "\\\\", '"': '\\"'}
    signs = (escapes.get(sign) or (sign if " " <= sign <= "~" else f"\\U{ord(sign):08x}") for sign in text)
    return '"' + "".join(signs) + '"'


def _job_matcher(jobs: tuple[str, ...]) -> tuple[str, ...]:
    if len(jobs) > 1:
        return (f"job=~{string('|'.join(map(re.escape, jobs)))}",)
    return tuple(f"job={string(job)}" for job in jobs)


def _counter(spec: MetricSpec) -> MetricSpec:
    """Return a counter with the name of its series: prometheus_client adds the suffix."""
    return spec._replace(name=f"{spec.name.removesuffix('_total')}_total")


def _label(spec: MetricSpec, *attributes: str) -> str:
    """Return the label whose value is one of some attributes of the request; empty if there is none."""
    return next((label for label, attribute in spec.labels.items() if attribute in attributes), "")
