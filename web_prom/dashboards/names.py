"""Series and expressions of PromQL for one naming, limited to the variables of the dashboards."""

from __future__ import annotations

from web_prom.dashboards.options import DashboardOptions
from web_prom.metrics.conventions import MetricSpec

RATE = "$__rate_interval"
"""The window of rates in graphs. Grafana makes it at least four scrape intervals."""

RANGE = "$__range"
"""The window of numbers over the whole time range that is shown."""

_SERVICE = ('job="$job"', 'instance=~"$instance"')


def family(name: str) -> MetricSpec:
    """Return the family of an adapter, which carries the namespace, by its name alone."""
    return MetricSpec(name=name, documentation="", labels={})


class Names:
    """The names of one service's series.

    Args:
        options: Naming and namespace.

    Attributes:
        requests: The family that counts requests by method, route and status.
        duration: The histogram of the durations of requests.
        in_progress: The gauge of requests in progress.
        route: The label of ``requests`` and ``duration`` for the route.
        status: The label of ``requests`` for the status.
    """

    def __init__(self, options: DashboardOptions) -> None:
        self._namespace = options.namespace
        naming = options.conventions
        self.duration = naming.duration
        self.requests = naming.requests or self.duration._replace(name=f"{self.duration.name}_count")
        self.in_progress = naming.in_progress
        self.request_size, self.response_size = naming.request_size, naming.response_size
        self._exceptions = naming.exceptions
        self.route = _label(self.duration, "route", "template")
        self.status = _label(self.requests, "status")

    def name(self, spec: MetricSpec | str, part: str = "") -> str:
        """Return the name of a series of a family.

        Args:
            spec: The family if it carries the namespace, or the name of a family that does not.
            part: The end of the name, for example ``_bucket``.
        """
        if isinstance(spec, str):
            return spec + part
        return f"{self._namespace}_{spec.name}{part}" if self._namespace else spec.name + part

    def of(self, spec: MetricSpec | str, *matchers: str, part: str = "") -> str:
        """Return the selector of a family's series of the selected job and instances."""
        return f"{self.name(spec, part)}{{{', '.join((*_SERVICE, *matchers))}}}"

    def rate(self, spec: MetricSpec | str, *matchers: str, part: str = "", window: str = RATE) -> str:
        """Return the rate of a counter."""
        return f"rate({self.of(spec, *matchers, part=part)}[{window}])"

    def sum_rate(
        self, spec: MetricSpec | str, *matchers: str, by: str = "", part: str = "", window: str = RATE
    ) -> str:
        """Return the sum of the rates of a counter, by some labels."""
        return f"sum{_by(by)}({self.rate(spec, *matchers, part=part, window=window)})"

    def quantile(
        self, quantile: float, spec: MetricSpec | str, *matchers: str, by: str = "", window: str = RATE
    ) -> str:
        """Return the estimate of a quantile of a histogram, by some labels."""
        labels = f"le, {by}" if by else "le"
        rates = self.sum_rate(spec, *matchers, by=labels, part="_bucket", window=window)
        return f"histogram_quantile({quantile:g}, {rates})"

    def matches_route(self) -> str:
        """Return the matcher of the selected routes in families of requests."""
        return f'{self.route}=~"$route"'

    def errors(self, *matchers: str, by: str = "", window: str = RATE) -> str:
        """Return the share of requests that ended in a server error.

        It is 0 if no error was counted yet, and nothing without a request.
        """
        failed = self.sum_rate(self.requests, f'{self.status}=~"5.."', *matchers, by=by, window=window)
        every = self.sum_rate(self.requests, *matchers, by=by, window=window)
        return f"({failed} or 0 * {every}) / ({every} > 0)"

    def exceptions(self, *matchers: str, by: str = "", window: str = RATE) -> tuple[str, str]:
        """Return the rate of exceptions by type, and the label of the type.

        Args:
            *matchers: Further matchers.
            by: A further label.
            window: The window of the rate.
        """
        if self._exceptions is not None:
            spec, label = self._exceptions, _label(self._exceptions, "exception")
        else:
            # The label of the error is the status code where no exception was raised.
            spec, label = self.requests, _label(self.requests, "error")
            matchers = (*matchers, f'{label}!~"[0-9]*"')
        labels = f"{by}, {label}" if by else label
        return self.sum_rate(spec, *matchers, by=labels, window=window), label

    def by_route(self, expression: str) -> str:
        """Return an expression that has the label of :attr:`route` with the label ``route`` in its place.

        The families of queries have that label under each naming.
        """
        if self.route == "route":
            return expression
        named = f'label_replace({expression}, "route", "_unmatched", "{self.route}", "")'
        named = f'label_replace({named}, "route", "$1", "{self.route}", "(.+)")'
        return f"sum by (route) ({named})"

    def per_request(self, spec: MetricSpec, *matchers: str, window: str = RATE) -> str:
        """Return a counter of the work of requests, for each request, by route."""
        total = self.sum_rate(spec, *matchers, by="route", window=window)
        requests = self.by_route(self.sum_rate(self.requests, by=self.route, window=window))
        return f"{total} / ({requests} > 0)"


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""


def _label(spec: MetricSpec, *attributes: str) -> str:
    """Return the label whose value is one of some attributes of the request."""
    return next(label for label, attribute in spec.labels.items() if attribute in attributes)
