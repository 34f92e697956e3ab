"""Metric names with colons in OpenMetrics, which prometheus_client writes inconsistently.

With escaping ``underscores``, and without an escaping scheme, its encoder keeps a colon in ``# TYPE`` and
``# HELP`` but replaces it in the samples. The samples then have no type, and not the name that dashboards
query (https://github.com/prometheus/client_python/issues/1177). A colon is a legal character of a classic
metric name, so nothing has to be replaced.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

from web_prom.exposition.encoding.encoder import Encode, Families, MetricSource

_HEADINGS = (b"# HELP ", b"# TYPE ")


def keep_colons(encode: Encode) -> Encode:
    """Return an encoder that writes sample names with the same colons as the headings.

    The same encoder is returned if it has no such fault: for the text format, for other escaping schemes,
    and for prometheus_client before 0.23.
    """
    probe = Metric("a:b", "", "gauge")
    probe.add_sample("a:b", {}, 1.0)
    text = encode(Families([probe]))
    if b"# TYPE a:b " not in text or b"\na_b 1.0\n" not in text:
        return encode
    return lambda registry: _encode_with_colons(encode, registry)


def _encode_with_colons(encode: Encode, registry: MetricSource) -> bytes:
    families = _FamiliesWithColons(registry.collect())
    text = encode(families)
    if not families.replaced_names:
        return text
    lines = text.split(b"\n")
    names: dict[bytes, bytes] = {}
    for position, line in enumerate(lines):
        if line.startswith(_HEADINGS):
            names = families.replaced_names.get(line.split(b" ", 3)[2], {})
        elif names:
            written = line.partition(b" ")[0].partition(b"{")[0]
            if written in names:
                lines[position] = names[written] + line[len(written) :]
    return b"\n".join(lines)


class _FamiliesWithColons(Families):
    """Families that note their names with colons while they are encoded.

    Attributes:
        replaced_names: By family name: the names of its samples, by the form in which the encoder writes
            them.
    """

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__(families)
        self.replaced_names: dict[bytes, dict[bytes, bytes]] = {}

    def collect(self) -> Iterable[Metric]:
        for family in super().collect():
            if ":" in family.name:
                names = {sample.name for sample in family.samples if ":" in sample.name}
                known = self.replaced_names.setdefault(family.name.encode(), {})
                known.update((name.replace(":", "_").encode(), name.encode()) for name in names)
            yield family
