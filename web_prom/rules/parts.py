"""The parts of the rules, each for a file of its own or all for one."""

from __future__ import annotations

from collections.abc import Sequence

from web_prom.rules import processes, recordings, saturation, service
from web_prom.rules.model import Group, RuleOptions
from web_prom.rules.names import Names

PARTS = ("recording", "alerts", "saturation")
"""The sums of all replicas; alerts on the service; rules on how full it is. The last two need the first."""


def rule_groups(options: RuleOptions, parts: Sequence[str] = PARTS) -> list[Group]:
    """Return the groups of some parts, in the order of the evaluation.

    Args:
        options: What the rules are made for.
        parts: Some of :data:`PARTS`.
    """
    names = Names(options)
    found: list[Group] = []
    if "recording" in parts:
        found += recordings.groups(names)
    if "alerts" in parts:
        found += service.groups(names, options) + processes.groups(names, options)
    if "saturation" in parts:
        found += saturation.groups(names, options)
    return found
