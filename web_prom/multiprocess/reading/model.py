"""The data that a scrape merges: label sets, their schemas, and the families that they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

from prometheus_client.metrics_core import Metric

from web_prom.multiprocess.file_entries import CorruptFileError
from web_prom.multiprocess.reading.columns import FileColumns
from web_prom.multiprocess.reading.histogram_shape import HistogramShape
from web_prom.multiprocess.reading.keys import Labels

Series = tuple[str, Labels]
"""The name and the labels of a sample."""

Row = tuple[float, ...]
"""The values of one label set in a file: sum and buckets of a histogram, or a value and its timestamp."""

REMOVED_ENTRY: Any = frozenset()
"""The value of a label set in the column of a file that has removed its entry. It is false, as None is."""

# The names that all formats write in the same way.
_PLAIN_NAME = re.compile(r"(?!__)[a-zA-Z_:][a-zA-Z0-9_:]*").fullmatch
_PLAIN_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*").fullmatch


class LabelSchema:
    """The data that label sets share if they differ only in the values of their labels.

    Attributes:
        family: The family of the label sets.
        name: The name of the samples. For a histogram, the name of the family.
        label_names: The names of the labels, sorted. They do not include ``le``. They do not include ``pid``
            if the mode merges processes into one value.
        label_sets: The label sets by the values of the labels, in the order of the names.
        templates: For each shape of a histogram, the text of the samples with placeholders for the values of
            labels and the values of samples (a cache of ``merged_text``).
    """

    __slots__ = ("family", "label_names", "label_sets", "name", "templates")

    def __init__(self, family: Family, name: str, label_names: tuple[str, ...]) -> None:
        self.family = family
        self.name = name
        self.label_names = label_names
        self.label_sets: dict[tuple[str, ...], LabelSet] = {}
        self.templates: dict[HistogramShape | None, str] = {}


class LabelSet:
    """A label set of a family, with the values that each file has for it.

    Attributes:
        family: The family.
        schema: The data that is shared with label sets that differ only in the values of labels.
        label_values: The values of the labels, in the order of the schema's names.
        values: The value or the :data:`Row` of each file, at the column of the file. None for a file without
            an entry, and :data:`REMOVED_ENTRY` for a removed entry.
        was_removed: Whether any file has ever removed its entry.
        shape: The shape of a histogram's rows. None if files have different shapes (see
            ``HistogramFamily.shapes``).
        position: The index in the order of the family. -1 before the family is sorted.
        template: The text of several samples with placeholders for their values. None if it has to be made.
        sample_count: The number of samples after the last merge.
    """

    __slots__ = (
        "family",
        "label_values",
        "position",
        "sample_count",
        "schema",
        "shape",
        "template",
        "values",
        "was_removed",
    )

    def __init__(self, schema: LabelSchema, label_values: tuple[str, ...], columns: int) -> None:
        self.family = schema.family
        self.schema = schema
        self.label_values = label_values
        self.values: list[Any] = [None] * columns
        self.shape: HistogramShape | None = None
        self.was_removed = False
        self.position = -1
        self.template: str | None = None
        self.sample_count = 0

    @property
    def name(self) -> str:
        """The name of the samples. For a histogram, the name of the family."""
        return self.schema.name

    @property
    def labels(self) -> Labels:
        """The names and values of the labels."""
        return tuple(zip(self.schema.label_names, self.label_values, strict=True))

    @property
    def has_entries(self) -> bool:
        """Whether any file has entries of it, including removed ones, which the file may use again."""
        return self.values.count(None) < len(self.values)

    @property
    def is_visible(self) -> bool:
        """Whether any file has entries of it that are not removed."""
        return not self.was_removed or any(
            value is not None and value is not REMOVED_ENTRY for value in self.values
        )

    def store(self, column: int, value: Any, *, is_removed: bool) -> None:
        """Store the value of a file, if the file removes the label set or may have removed it before."""
        self.values[column] = REMOVED_ENTRY if is_removed else value
        self.was_removed = self.was_removed or is_removed
        if self.was_removed and not self.family.is_single:  # the number of samples may change
            self.template = None


class Family:
    """The label sets of one metric in the files of one group. Subclasses define how values are merged.

    Args:
        name: The name of the metric.
        columns: The files of the group.
        interned: Label values of the group. Equal values share one string object.

    Attributes:
        schemas: By the name of the samples and the names of the labels, in any order that a key has.
        helps: The documentation in each file, by column.
        ordered: The label sets in the order of a scrape. Valid after :meth:`sort`.
        texts: The text of their samples, at the same indexes (a cache of ``merged_text``).
        sample_count: The number of samples.
        has_plain_names: Whether all names consist of the original characters of Prometheus. Then the text of
            the samples is the same in every format.
        needs_sorting: Whether label sets were added or dropped since :meth:`sort`.
        definitions: The names of labels in each definition of the metric, if samples of one name have
            different labels. Valid after :meth:`sort`.
    """

    is_single = True
    """Whether a label set is always one sample, in any number of files."""

    def __init__(self, name: str, columns: FileColumns, interned: dict[str, str]) -> None:
        try:
            Metric(name, "", columns.metric_type)
        except ValueError:  # older versions of prometheus_client allow fewer names
            raise CorruptFileError(f"it has a metric with the name {name[:200]!r}") from None
        self.name = name
        self.columns = columns
        self.schemas: dict[tuple[str, tuple[str, ...]], LabelSchema] = {}
        self.helps: dict[int, str] = {}
        self.ordered: list[LabelSet] = []
        self.texts: list[bytes] = []
        self.sample_count = 0
        self.has_plain_names = True
        self.needs_sorting = False
        self.definitions: list[tuple[str, ...]] = []
        self._interned = interned

    @property
    def documentation(self) -> str:
        """The help text in the first file that has the family."""
        return next(self.helps[column] for column in self.columns.order if column in self.helps)

    @property
    def label_sets(self) -> Iterator[LabelSet]:
        """The label sets, in any order."""
        return chain.from_iterable([schema.label_sets.values() for schema in set(self.schemas.values())])

    def merge(self, label_set: LabelSet) -> tuple[float, ...]:
        """Return the merged values of the samples. It is empty if no file has set a value."""
        raise NotImplementedError

    def series(self, label_set: LabelSet) -> Sequence[Series]:
        """Return the names and labels of the samples, in the order of :meth:`merge`."""
        return [(label_set.name, label_set.labels)]

    def sample_names(self) -> set[str]:
        """Return the names of the samples."""
        return {schema.name for schema in self.schemas.values()}

    def get_or_add(self, name: str, labels: Mapping[str, str]) -> LabelSet:
        """Return the label set with these labels. Add it if there is none."""
        names = tuple(labels)
        schema = self.schemas.get((name, names)) or self._add_schema(name, names)
        values = tuple([labels[label] for label in schema.label_names])
        label_set = schema.label_sets.get(values)
        if label_set is None:
            values = tuple(map(self._interned.setdefault, values, values))
            label_set = schema.label_sets[values] = LabelSet(schema, values, self.columns.capacity)
            self.needs_sorting = True
        return label_set

    def get_or_add_all(self, name: str, labels: Mapping[str, Sequence[str]], count: int) -> list[LabelSet]:
        """Return the label sets of several keys. Add those that do not exist.

        Args:
            name: The name of the samples.
            labels: For each label, its value in each key.
            count: The number of keys.
        """
        names = tuple(labels)
        schema = self.schemas.get((name, names)) or self._add_schema(name, names)
        known, intern, columns = schema.label_sets, self._interned.setdefault, self.columns.capacity
        rows = zip(*[map(intern, labels[label], labels[label]) for label in schema.label_names], strict=True)
        found = []
        for values in rows if names else [()] * count:
            label_set = known.get(values)
            if label_set is None:
                label_set = known[values] = LabelSet(schema, values, columns)
                self.needs_sorting = True
            found.append(label_set)
        return found

    def drop_unused(self) -> None:
        """Drop the label sets that no file has any more."""
        for names, schema in list(self.schemas.items()):
            unused = [label_set for label_set in schema.label_sets.values() if not label_set.has_entries]
            for label_set in unused:
                self.sample_count -= schema.label_sets.pop(label_set.label_values).sample_count
                self.needs_sorting = True
            if not schema.label_sets:
                del self.schemas[names]

    def sort(self) -> None:
        """Sort the label sets by their labels and then by name, after some were added or dropped."""
        texts = self.texts
        self.ordered = self._sorted(list(self.label_sets))
        self.texts = [texts[each.position] if each.position >= 0 else b"" for each in self.ordered]
        for position, label_set in enumerate(self.ordered):
            label_set.position = position
        self.definitions = self._find_definitions()
        self.needs_sorting = False

    def _sorted(self, label_sets: list[LabelSet]) -> list[LabelSet]:
        names = {schema.label_names for schema in self.schemas.values()}
        if len(names) == 1:
            # Strings are compared several times as fast as tuples. "\0" is lower than every other character.
            keys = ["\0".join((*each.label_values, each.schema.name)) for each in label_sets]
            if sum([key.count("\0") for key in keys]) == len(keys) * len(names.pop()):
                return sorted(label_sets, key=dict(zip(label_sets, keys, strict=True)).__getitem__)
        return sorted(label_sets, key=attrgetter("labels", "name"))

    def _find_definitions(self) -> list[tuple[str, ...]]:
        schemas = set(self.schemas.values())
        if len(schemas) == len({schema.name for schema in schemas}):
            return []
        return sorted({schema.label_names for schema in schemas})

    def _add_schema(self, name: str, names: tuple[str, ...]) -> LabelSchema:
        label_names = tuple(sorted(names))
        schema = self.schemas.get((name, label_names))
        if schema is None:
            schema = self.schemas[name, label_names] = LabelSchema(self, name, label_names)
            self.has_plain_names = self.has_plain_names and self._are_plain(name, label_names)
        self.schemas[name, names] = schema
        return schema

    def _are_plain(self, name: str, label_names: tuple[str, ...]) -> bool:
        # The text format shows samples with these suffixes as families of their own.
        if name.startswith(self.name) and name[len(self.name) :] in ("_created", "_gsum", "_gcount"):
            return False
        return all([*map(_PLAIN_NAME, (self.name, name)), *map(_PLAIN_LABEL, label_names)])
