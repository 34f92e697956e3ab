"""Metric names with colons in OpenMetrics, which prometheus_client writes in two ways at once.

Without a scheme of escaping, and with ``underscores``, its encoder keeps a colon in ``# TYPE`` and ``# HELP``
and replaces it in the samples: they have no type then, and not the name that dashboards ask for
(https://github.com/prometheus/client_python/issues/1177). A colon is legal in a name of the old characters,
so nothing has to be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client.metrics_core import Metric

Encode = Callable[[Any], bytes]
"""An encoder of prometheus_client: from a registry, or what collects like one, to text."""

_HEADINGS = (b"# HELP ", b"# TYPE ")


def keeping_colons(encode: Encode) -> Encode:
    """Return an encoder that writes the names of samples as they stand in the headings.

    It is the same encoder where there is nothing to mend: in the text format, with another scheme of
    escaping, and with prometheus_client before 0.23.
    """
    probe = Metric("a:b", "", "gauge")
    probe.add_sample("a:b", {}, 1.0)
    text = encode(_Families([probe]))
    if b"# TYPE a:b " not in text or b"\na_b 1.0\n" not in text:
        return encode
    return lambda registry: _encoded(encode, registry)


def _encoded(encode: Encode, registry: Any) -> bytes:
    families = _Families(registry.collect())
    text = encode(families)
    if not families.renamed:
        return text
    lines = text.split(b"\n")
    names: dict[bytes, bytes] = {}
    for place, line in enumerate(lines):
        if line.startswith(_HEADINGS):
            names = families.renamed.get(line.split(b" ", 3)[2], {})
        elif names:
            written = line.partition(b" ")[0].partition(b"{")[0]
            if written in names:
                lines[place] = names[written] + line[len(written) :]
    return b"\n".join(lines)


class _Families:
    """What an encoder takes.

    Attributes:
        renamed: Of families with a colon, by name: the names of samples, by how the encoder writes them.
    """

    def __init__(self, families: Iterable[Metric]) -> None:
        self.renamed: dict[bytes, dict[bytes, bytes]] = {}
        self._families = families

    def collect(self) -> Iterable[Metric]:
        for family in self._families:
            if ":" in family.name:
                names = {sample.name for sample in family.samples if ":" in sample.name}
                known = self.renamed.setdefault(family.name.encode(), {})
                known.update((name.replace(":", "_").encode(), name.encode()) for name in names)
            yield family
