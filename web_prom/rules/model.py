"""What rules are, and what they are made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from web_prom.config.settings import Config
from web_prom.errors import ConfigError
from web_prom.text_format import format_number

Severity = Literal["page", "ticket"]
"""``page`` wakes somebody. ``ticket`` waits for working hours."""

FASTEST_BURN = 14.4
"""The highest burn rate that is alerted on; see :mod:`web_prom.rules.service`."""

RUNBOOKS = "docs/runbooks/alerts.rst"
"""The page of the runbooks in the repository."""


@dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """What the rules are made for.

    Attributes:
        config: Naming, namespace and buckets of the durations, as the applications have them.
        jobs: The values of the label ``job``. Empty for all jobs that web-prom measures.
        slo: Percent of the requests that must not end in a server error.
        latency: Seconds within which requests must end. One of the buckets of the durations.
        latency_slo: Percent of the requests that must end within ``latency``.
        min_rate: Requests per second below which ratios of requests alert nobody.
        sample_limit: The limit of the samples of a scrape, in Prometheus' configuration. 0 for none.
        runbooks: The URL of the page of the runbooks. The alerts' names are its anchors.

    Raises:
        ConfigError: A value is not allowed.
    """

    config: Config
    jobs: tuple[str, ...] = ()
    slo: float = 99.9
    latency: float = 0.5
    latency_slo: float = 99.0
    min_rate: float = 0.1
    sample_limit: int = 0
    runbooks: str = RUNBOOKS

    def __post_init__(self) -> None:
        for name, percent in (("--slo", self.slo), ("--latency-slo", self.latency_slo)):
            _check_objective(name, percent)
        buckets = self.config.duration_buckets
        if self.latency not in buckets:
            bounds = ", ".join(f"{bound:g}" for bound in buckets)
            raise ConfigError(
                f"--latency {self.latency:g} is not one of the buckets of the request durations. Prometheus "
                f"only knows how many requests were faster than one of these, in seconds: {bounds}. Choose "
                "one of them. If PROM_DURATION_BUCKETS has others, give them with --buckets."
            )
        for job in self.jobs:
            if not job or not _is_unicode(job):
                raise ConfigError(f"--job {job!r} is not the name of a job")
        if not self.runbooks or not _is_unicode(self.runbooks) or "{{" in self.runbooks:
            raise ConfigError(f"--runbooks {self.runbooks!r} is not a URL")

    @property
    def latency_bound(self) -> str:
        """The latency as the label ``le`` has it."""
        return format_number(self.latency)


@dataclass(frozen=True)
class Recording:
    """A rule that records a series.

    Attributes:
        record: The name of the series.
        expr: Its expression, of one or several lines.
    """

    record: str
    expr: str


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A rule that fires while its expression has a result.

    Attributes:
        alert: The name, which is also the anchor of its runbook.
        expr: The expression, of one or several lines.
        severity: Whom it is for.
        summary: One sentence with the job, the place and the value; a template of Prometheus.
        wait: How long the expression must have a result. Empty for not at all.
    """

    alert: str
    expr: str
    severity: Severity
    summary: str
    wait: str = ""

    def annotations(self, options: RuleOptions) -> Mapping[str, str]:
        """Return the annotations of the alert."""
        return {"summary": self.summary, "runbook_url": f"{options.runbooks}#{self.alert.lower()}"}


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated one after the other.

    Attributes:
        name: Unique in all files.
        rules: In the order of the evaluation.
    """

    name: str
    rules: tuple[Recording | Alert, ...]


def _check_objective(name: str, percent: float) -> None:
    lowest = 100 * (1 - 1 / FASTEST_BURN)
    if not percent < 100:
        raise ConfigError(
            f"{name} {percent:g} allows no failure at all, so that there is no error budget; give less than "
            "100 percent, for example 99.9"
        )
    if not percent > lowest:
        raise ConfigError(
            f"{name} {percent:g} is too low: the fastest burn rate is {FASTEST_BURN:g} times the errors that "
            f"it allows, which is more than all requests; give percent above {lowest:.1f}, for example 99.9"
        )


def _is_unicode(text: str) -> bool:
    # An argument of the command line that is not UTF-8 has surrogates.
    return not any("\ud800" <= sign <= "\udfff" for sign in text)
