"""What ``web-prom check`` prints after the verdicts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from web_prom.cli.cardinality import Cardinality
from web_prom.cli.lint import Remark
from web_prom.cli.terminal_text import clean, cut
from web_prom.live.checks import SetUpChecks
from web_prom.live.text_samples import Scrape

_WIDTH = 80
_NAME_WIDTH = 40
MAX_REMARKS = 20
"""Remarks on names that are printed. JSON has all of them."""


def set_up_mistakes(scrape: Scrape, snapshot: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the checks of the set-up that failed, as the live page shows them."""
    if not snapshot["requests"]["routes"] and not any(
        name.startswith("web_prom_") for name in scrape.families
    ):
        return []  # an exporter of another project, which has no requests
    return [check for check in SetUpChecks()(snapshot) if check["ok"] is False]


def mistakes_as_text(mistakes: Sequence[dict[str, Any]]) -> list[str]:
    """Return lines about mistakes of the set-up."""
    lines = []
    for mistake in mistakes:
        lines += textwrap.wrap(f"SET-UP    {mistake['summary']}", _WIDTH, subsequent_indent=" " * 10)
        lines += textwrap.wrap(mistake["remedy"], _WIDTH, initial_indent=" " * 10, subsequent_indent=" " * 10)
    return lines


def remarks_as_text(remarks: Sequence[Remark]) -> list[str]:
    """Return lines about names."""
    lines = []
    for remark in remarks[:MAX_REMARKS]:
        text = f"NAME      {clean(remark.family)}: {remark.text}"
        lines += textwrap.wrap(text, _WIDTH, subsequent_indent=" " * 10)
    if len(remarks) > MAX_REMARKS:
        lines.append(f"and {len(remarks) - MAX_REMARKS} more remarks on names; --json prints all")
    return lines


def costs_as_text(costs: Cardinality) -> list[str]:
    """Return lines about the families with the most series."""
    lines = [f"{costs.series:,} series in {costs.families:,} families. The families with the most series:"]
    for family in costs.costly:
        labels = ", ".join(f"{clean(label)} {values:,}" for label, values in family.labels.items())
        name = cut(clean(family.name), _NAME_WIDTH)
        lines.append(cut(f"{family.series:>8,}  {name:<{_NAME_WIDTH}}  {labels}".rstrip(), _WIDTH))
    return lines
