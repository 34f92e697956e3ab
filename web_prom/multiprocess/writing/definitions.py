"""The label names of each family in this process: two metrics of one name would share one family."""

from __future__ import annotations

import logging

logger = logging.getLogger("web_prom")

_label_names: dict[str, frozenset[str]] = {}
# Pairs that were checked. There are few of them, and most values need only this look-up.
_checked: set[tuple[str, tuple[str, ...]]] = set()
_warned: set[str] = set()


def check_label_names(metric_name: str, label_names: tuple[str, ...]) -> None:
    """Log a warning, once, if a family has values with other label names than before.

    Registries keep metrics of one name apart. The shared directory does not. Safe to call from any thread.

    Args:
        metric_name: The name of the family.
        label_names: The label names of one of its values. The label ``le`` of a bucket is ignored.
    """
    if (metric_name, label_names) in _checked:
        return
    _checked.add((metric_name, label_names))
    names = frozenset(label_names) - {"le"}
    before = _label_names.setdefault(metric_name, names)
    if before != names and metric_name not in _warned:
        _warned.add(metric_name)
        logger.warning(
            "two instruments are named %s, one with the labels %s, one with %s. They are in different "
            "registries, but in the same shared directory: scrapes show both as one family, and sum() counts "
            "each event twice. Remove one of them, or give it another name. PROM_NAMESPACE is put before the "
            "names of web-prom's metrics.",
            metric_name,
            _listed(before),
            _listed(names),
        )


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "(none)"
