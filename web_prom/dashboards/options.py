"""What dashboards are made for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from web_prom.config import parsers
from web_prom.errors import ConfigError
from web_prom.metrics.conventions import NAMINGS, OPENTELEMETRY, PROMETHEUS, Naming

DASHBOARD_NAMINGS = tuple(name for name, each in NAMINGS.items() if each in (PROMETHEUS, OPENTELEMETRY))
"""The namings that have dashboards. The others keep those of the library that they replace."""

_LONGEST_NAME = "database"
_MAX_UID = 40  # Grafana refuses a longer uid.
_MAX_PREFIX = _MAX_UID - len(_LONGEST_NAME) - 1


@dataclass(frozen=True, kw_only=True)
class DashboardOptions:
    """What dashboards are made for.

    Attributes:
        naming: ``PROM_NAMING`` of the applications: one of :data:`DASHBOARD_NAMINGS`.
        namespace: ``PROM_NAMESPACE`` of the applications.
        uid: The first part of the uids in Grafana. Links between dashboards need the same for all.
            Empty for ``web-prom``, with the naming and the namespace if they are not the defaults.
        title: The first part of the titles. Empty for ``web-prom``, with the same additions.
        docs: The URL of the page about the dashboards, to which each of them links. Empty for its path.

    Raises:
        ConfigError: A value is not allowed.
    """

    naming: str = "prometheus"
    namespace: str = ""
    uid: str = ""
    title: str = ""
    docs: str = ""

    def __post_init__(self) -> None:
        if self.naming not in DASHBOARD_NAMINGS:
            raise ConfigError(_naming_error(self.naming))
        try:
            parsers.parse_namespace(self.namespace)
        except ValueError as error:
            raise ConfigError(f"--namespace {self.namespace!r}: allowed are {error}") from error
        if not re.fullmatch("[A-Za-z0-9_-]+", self.uid_prefix) or len(self.uid_prefix) > _MAX_PREFIX:
            raise ConfigError(
                f"--uid: {self.uid_prefix!r} is not the first part of a uid; allowed are 1 to {_MAX_PREFIX} "
                "letters, digits, '-' and '_'; give a shorter one with --uid"
            )
        if not self.title_prefix.strip() or not self.title_prefix.isprintable():
            raise ConfigError(f"--title: {self.title!r} is not a title; give printable text")

        if self.docs and not re.fullmatch(r"https?://[^\s()<>]+", self.docs):
            raise ConfigError(
                f"--docs: {self.docs!r} is not a URL; give one that starts with http:// or https://"
            )

    @property
    def conventions(self) -> Naming:
        """The names of the families of requests."""
        return NAMINGS[self.naming]

    @property
    def additions(self) -> tuple[str, ...]:
        """The naming and the namespace, where they are not the defaults."""
        naming = () if self.naming == "prometheus" else (self.naming,)
        return (*naming, *([self.namespace] if self.namespace else []))

    @property
    def uid_prefix(self) -> str:
        """The first part of the uids."""
        return self.uid or "-".join(("web-prom", *self.additions))

    @property
    def title_prefix(self) -> str:
        """The first part of the titles."""
        return self.title or " ".join(("web-prom", *self.additions))

    def uid_of(self, dashboard: str) -> str:
        """Return the uid of a dashboard."""
        return f"{self.uid_prefix}-{dashboard}"

    @property
    def tags(self) -> list[str]:
        """The tags that all dashboards of these options have. Links find the dashboards by them."""
        return ["web-prom", self.uid_prefix] if self.uid_prefix != "web-prom" else ["web-prom"]


def _naming_error(naming: str) -> str:
    allowed = ", ".join(DASHBOARD_NAMINGS)
    if naming in NAMINGS:
        return (
            f"--naming: there are no dashboards for {naming!r}, which keeps the names of another library and "
            f"therefore the dashboards made for that; allowed: {allowed}"
        )
    return f"--naming: there is no naming {naming!r}; allowed: {allowed}"
