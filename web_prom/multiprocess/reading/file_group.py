"""The data that files of one metric type and mode share: keys, predicted entries, families, columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain

from web_prom.multiprocess.file_entries import CorruptFileError
from web_prom.multiprocess.file_format import REMOVED, REMOVING, FileName, removed_value
from web_prom.multiprocess.reading.columns import FileColumns
from web_prom.multiprocess.reading.gauges import AllGauge, MaxGauge, MinGauge, MostRecentGauge, SumGauge
from web_prom.multiprocess.reading.histogram_shape import HistogramShape
from web_prom.multiprocess.reading.histograms import HistogramFamily, PredictedEntries
from web_prom.multiprocess.reading.keys import Labels, ParsedKey, decode_key, decode_similar_keys
from web_prom.multiprocess.reading.merged_family import MergedFamily
from web_prom.multiprocess.reading.model import LabelSet

# Fewer keys are decoded faster one by one. With more keys, the processor's cache loses the first ones before
# they are used again.
_MIN_BATCH, _MAX_BATCH = 8, 512

_SUFFIXES = {
    "counter": ("_total", "_created"),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "summary": ("_count", "_sum", "_created"),
}
"""By metric type, the suffixes of the names of samples after the name of the family."""

FAMILY_CLASSES: dict[str, type[MergedFamily]] = {
    "counter": MergedFamily,
    "summary": MergedFamily,
    "histogram": HistogramFamily,
    **dict.fromkeys(("min", "livemin"), MinGauge),
    **dict.fromkeys(("max", "livemax"), MaxGauge),
    **dict.fromkeys(("sum", "livesum"), SumGauge),
    **dict.fromkeys(("mostrecent", "livemostrecent"), MostRecentGauge),
}
"""By metric type or by the mode of a gauge. Every other mode is merged as ``all``."""


class FileGroup:
    """The files of one metric type and, for gauges, of one mode.

    Args:
        metric_type: ``counter``, ``gauge``, ``histogram`` or ``summary``.
        mode: The ``multiprocess_mode`` of gauges. Empty for the other types.

    Attributes:
        columns: The columns of the files.
        families: The families by name.
        changed: The label sets whose values have changed since they were merged.
        has_timestamps: Whether the timestamps of values count.
        removed_values: The values that mark an entry as removed.
        label_sets: The label set of each key. Not used for histograms.
        predictions: For the key of a histogram's ``_sum``, the entries that are expected with it.
    """

    def __init__(self, metric_type: str, mode: str) -> None:
        self.columns = FileColumns(metric_type, mode)
        self.families: dict[str, MergedFamily] = {}
        self.changed: set[LabelSet] = set()
        self.has_timestamps = mode in ("mostrecent", "livemostrecent")
        has_several_entries = metric_type in ("histogram", "summary")
        self.removed_values = (REMOVED, REMOVING) if has_several_entries else (removed_value(mode),)
        self.label_sets: dict[bytes, LabelSet] = {}
        self.predictions: dict[bytes, PredictedEntries] = {}
        self._family_class = FAMILY_CLASSES.get(mode or metric_type, AllGauge)
        self._has_removed_columns = False
        self._last_key: tuple[bytes, ParsedKey] | None = None
        # Most label sets share most of the values of their labels: one string object for all of them.
        self._interned: dict[str, str] = {}

    @property
    def metric_type(self) -> str:
        """The metric type of the files."""
        return self.columns.metric_type

    def add_column(self, name: FileName) -> int:
        """Return a column for a file. No other file uses the column."""
        column = self.columns.add(name)
        self.reserve(column + 1)
        return column

    def reserve(self, columns: int) -> None:
        """Extend every label set to so many columns. This is cheaper than to add one column at a time."""
        more = columns - self.columns.capacity
        if more > 0:
            self.columns.capacity = columns
            for family in self.families.values():
                for label_set in family.label_sets:
                    label_set.values += [None] * more

    def remove_column(self, column: int) -> None:
        """Free a column for another file. No label set may have a value in it."""
        self.columns.remove(column)
        for family in self.families.values():
            family.helps.pop(column, None)
        self._has_removed_columns = True

    def take_changed(self) -> list[LabelSet]:
        """Return the label sets whose values have changed since the last call.

        Label sets that no file has any more are dropped, and all families are sorted.
        """
        if self._has_removed_columns:
            self._drop_unused()
            changed = [label_set for label_set in self.changed if label_set.has_entries]
        else:
            changed = list(self.changed)
        self.changed.clear()
        for family in self.families.values():
            if family.needs_sorting:
                family.sort()
        return changed

    def parse_key(self, key: bytes) -> ParsedKey:
        """Parse a key. The last one is cached.

        Raises:
            CorruptFileError: A file of this type has no such key.
        """
        if self._last_key is None or self._last_key[0] != key:
            parsed = ParsedKey.parse(key)
            self._check_sample(parsed.family, parsed.sample)
            self._last_key = key, parsed
        return self._last_key[1]

    def add_keys(self, keys: Iterable[bytes]) -> None:
        """Parse new keys and add their label sets.

        Raises:
            CorruptFileError: A file of this type has no such key.
        """
        similar: dict[bytes, list[bytes]] = defaultdict(list)
        for key in keys:
            similar[key.partition(b"{")[0]].append(key)
        for batch in chain.from_iterable(map(_batches, similar.values())):
            decoded = decode_similar_keys(batch) if len(batch) >= _MIN_BATCH else None
            if decoded is not None:
                self._add_label_sets(batch, *decoded)
            else:
                for key in batch:
                    family, sample, labels, _ = decode_key(key)
                    self._add_label_sets((key,), family, sample, {name: [labels[name]] for name in labels})

    def predict(self, key: bytes) -> PredictedEntries | None:
        """Predict the entries of a label set from the key of its first entry, which is new.

        Returns:
            The entries that are expected in the file. None if no prediction is possible.

        Raises:
            CorruptFileError: prometheus_client writes no such key.
        """
        if b'_sum", {' not in key:
            return None
        name, sample, labels, _ = decode_key(key)
        family = self.families.get(name)
        if not isinstance(family, HistogramFamily) or sample != family.name + "_sum" or "le" in labels:
            return None
        predicted = family.predict(key, labels)
        if predicted is not None:
            self.predictions[key] = predicted
        return predicted

    def add_shape(self, family: HistogramFamily, shape: HistogramShape) -> None:
        """Use a shape for predictions if it has more entries than all shapes before."""
        usual = family.usual_shape
        if shape.is_regular and (usual is None or len(shape.entries) > len(usual.entries)):
            family.usual_shape = shape
            self.predictions = {
                key: each for key, each in self.predictions.items() if each.label_set.family is not family
            }

    def get_label_set(self, name: str, labels: Labels) -> LabelSet:
        """Return the label set of a histogram. Add it if there is none.

        Raises:
            CorruptFileError: prometheus_client does not allow the name.
        """
        return self._get_family(name).get_or_add(name, dict(labels))

    def _add_label_sets(
        self, keys: Sequence[bytes], family: str, sample: str, labels: dict[str, list[str]]
    ) -> None:
        if self.columns.mode and self._family_class is not AllGauge:
            labels.pop("pid", None)
        self._check_sample(family, sample)
        label_sets = self._get_family(family).get_or_add_all(sample, labels, len(keys))
        self.label_sets.update(zip(keys, label_sets, strict=True))

    def _check_sample(self, family: str, sample: str) -> None:
        """Raise CorruptFileError for a sample that no file of this type has.

        The contents of a file with another name would change the type of a family that other files have.
        """
        if not (sample.startswith(family) and sample[len(family) :] in _SUFFIXES[self.metric_type]):
            raise CorruptFileError(
                f"it has the sample {sample[:200]!r} of the {self.metric_type} {family[:200]!r}"
            )

    def _get_family(self, name: str) -> MergedFamily:
        family = self.families.get(name)
        if family is None:
            family = self.families[name] = self._family_class(name, self.columns, self._interned)
        return family

    def _drop_unused(self) -> None:
        """Drop the keys, label sets and families that no file has any more."""
        self._has_removed_columns = False
        for family in list(self.families.values()):
            family.drop_unused()
            if not family.schemas:
                del self.families[family.name]
        self.label_sets = {key: each for key, each in self.label_sets.items() if each.has_entries}
        self.predictions = {key: each for key, each in self.predictions.items() if each.label_set.has_entries}
        self._interned.clear()


def _batches(keys: list[bytes]) -> Iterable[list[bytes]]:
    return [keys[start : start + _MAX_BATCH] for start in range(0, len(keys), _MAX_BATCH)]
