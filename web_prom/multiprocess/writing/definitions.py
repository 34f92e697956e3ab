"""Which label names each family has in this process: two instruments of one name would share one family."""

from __future__ import annotations

import logging

logger = logging.getLogger("web_prom")

_label_names: dict[str, frozenset[str]] = {}
# What was looked at: there are few of them, and a look-up is all that most values cost.
_known: set[tuple[str, tuple[str, ...]]] = set()
_warned: set[str] = set()


def note_definition(metric_name: str, label_names: tuple[str, ...]) -> None:
    """Log a warning, once, where a family's values come with other label names than before.

    Registries keep instruments of one name apart, the shared directory does not. Safe to call from any
    thread.

    Args:
        metric_name: The family.
        label_names: Those of one of its values; a bucket's ``le`` does not count.
    """
    if (metric_name, label_names) in _known:
        return
    _known.add((metric_name, label_names))
    names = frozenset(label_names) - {"le"}
    before = _label_names.setdefault(metric_name, names)
    if before != names and metric_name not in _warned:
        _warned.add(metric_name)
        logger.warning(
            "two instruments are named %s, one with the labels %s, one with %s. Each has a registry of its "
            "own, but the shared directory is one: both are in one family of a scrape, and sum() counts each "
            "event twice. Do without one of them, or give it another name; PROM_NAMESPACE stands before the "
            "names of web-prom's families.",
            metric_name,
            _listed(before),
            _listed(names),
        )


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "(none)"
