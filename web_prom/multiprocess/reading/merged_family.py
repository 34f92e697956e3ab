"""From the values of many files to one: label sets, families, and the rules by which each kind is merged.

The rules are those of ``MultiProcessCollector`` in prometheus_client, sample for sample; those for histograms
and gauges are in ``histograms`` and ``gauges``. Sums are made with ``math.fsum``, which rounds once: the
order of the files does not matter, and a file more cannot lower a sum by an ulp, which Prometheus would take
for a restart.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from web_prom.multiprocess.reading.keys import DamagedFileError, Labels
from web_prom.upstream.registry import has_merging, merge_samples

if TYPE_CHECKING:
    from web_prom.multiprocess.reading.file_group import Kind
    from web_prom.multiprocess.reading.histograms import Shape

logger = logging.getLogger("web_prom")

GONE: Any = frozenset()
"""What a label set has from a file whose entry of it was removed. It is false, as None is."""

_PLAIN_NAME = re.compile(r"(?!__)[a-zA-Z_:][a-zA-Z0-9_:]*").fullmatch
_PLAIN_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*").fullmatch

Series = tuple[str, Labels]
"""A sample's name and labels."""

Row = tuple[float, ...]
"""What a file holds of one label set: a histogram's sum and buckets, or a value and its timestamp."""


class Form:
    """What label sets of a family share that differ in the labels' values only.

    Attributes:
        family: Whose they are.
        name: The samples' name; of a histogram, the family's.
        label_names: Sorted; without ``le``, and without ``pid`` where the mode adds processes up.
        label_sets: By the labels' values, in the order of the names.
        outlines: The texts of their samples without any value, by a histogram's shape (kept here by
            ``rendering``).
    """

    __slots__ = ("family", "label_names", "label_sets", "name", "outlines")

    def __init__(self, family: Family, name: str, label_names: tuple[str, ...]) -> None:
        self.family = family
        self.name = name
        self.label_names = label_names
        self.label_sets: dict[tuple[str, ...], LabelSet] = {}
        self.outlines: dict[Shape | None, str] = {}


class LabelSet:
    """One label set of a family, with what each file says of it.

    Attributes:
        family: Whose it is.
        form: The names.
        label_values: In the order of the names.
        values: For each file of the kind, at its column: the value, or a :data:`Row`. None if it has none,
            and :data:`GONE` if it was removed.
        removed: Whether any file ever removed it.
        shape: Of a histogram's rows; None while files differ in it (then ``family.shapes`` has them).
        rank: The place in the family's order; -1 before it has one.
        template: The text of several samples, to be filled with their values; None when it has to be made.
        size: How many samples there were when it was merged last.
    """

    __slots__ = ("family", "form", "label_values", "rank", "removed", "shape", "size", "template", "values")

    def __init__(self, form: Form, label_values: tuple[str, ...], columns: int) -> None:
        self.family = form.family
        self.form = form
        self.label_values = label_values
        self.values: list[Any] = [None] * columns
        self.shape: Shape | None = None
        self.removed = False
        self.rank = -1
        self.template: str | None = None
        self.size = 0

    @property
    def name(self) -> str:
        """The sample's name; of a histogram, the family's."""
        return self.form.name

    @property
    def labels(self) -> Labels:
        """The names and values of the labels."""
        return tuple(zip(self.form.label_names, self.label_values, strict=True))

    @property
    def is_held(self) -> bool:
        """Whether any file has it, or has removed it and may have it again."""
        return self.values.count(None) < len(self.values)

    @property
    def is_shown(self) -> bool:
        """Whether any file has it that has not removed it."""
        return not self.removed or any(value is not None and value is not GONE for value in self.values)

    def put(self, column: int, value: Any, gone: bool) -> None:
        """Take over what a file has, where it has removed the label set or may have done so before."""
        self.values[column] = GONE if gone else value
        self.removed = self.removed or gone
        if self.removed and not self.family.is_single:  # perhaps another number of samples
            self.template = None


class Family:
    """The label sets of one metric in the files of one kind, and how their values become samples.

    Attributes:
        name: The metric's.
        forms: By the sample's name and the labels', in whatever order a key has them.
        helps: The documentation that each file gives, by column.
        ordered: The label sets as they are shown; valid after :meth:`settle`.
        texts: Their samples as text, at the same places (kept here by ``rendering``).
        size: The number of samples.
        plain: Whether every name in it is of Prometheus' old character set, so that its text is the same
            in every format.
        definitions: The names of labels, where samples of one name have different ones: of two definitions
            of the family. Valid after :meth:`settle`.
    """

    is_single = True
    """Whether a label set is one sample, whichever files have it."""

    def __init__(self, kind: Kind, name: str) -> None:
        try:
            Metric(name, "", kind.type)
        except ValueError:  # older versions of prometheus_client allow less
            raise DamagedFileError(f"it has a metric with the name {name[:200]!r}") from None
        self.kind = kind
        self.name = name
        self.forms: dict[tuple[str, tuple[str, ...]], Form] = {}
        self.helps: dict[int, str] = {}
        self.ordered: list[LabelSet] = []
        self.texts: list[bytes] = []
        self.size = 0
        self.plain = True
        self.stale = False
        self.definitions: list[tuple[str, ...]] = []

    @property
    def documentation(self) -> str:
        """The help text of the first file that has the family."""
        return next(self.helps[column] for column in self.kind.order if column in self.helps)

    def label_sets(self) -> Iterator[LabelSet]:
        """Give the label sets, in no order."""
        return chain.from_iterable([form.label_sets.values() for form in set(self.forms.values())])

    def add(self, name: str, labels: Mapping[str, str], columns: int) -> LabelSet:
        """Return a label set, made if there is none yet."""
        names = tuple(labels)
        form = self.forms.get((name, names)) or self._add_form(name, names)
        values = tuple([labels[label] for label in form.label_names])
        label_set = form.label_sets.get(values)
        if label_set is None:
            values = tuple(map(self.kind.texts.setdefault, values, values))
            label_set = form.label_sets[values] = LabelSet(form, values, columns)
            self.stale = True
        return label_set

    def add_all(
        self, name: str, labels: Mapping[str, Sequence[str]], count: int, columns: int
    ) -> list[LabelSet]:
        """Return so many label sets that have the same names, given the values of each label."""
        names = tuple(labels)
        form = self.forms.get((name, names)) or self._add_form(name, names)
        known, once = form.label_sets, self.kind.texts.setdefault
        rows = zip(*[map(once, labels[label], labels[label]) for label in form.label_names], strict=True)
        found = []
        for values in rows if names else [()] * count:
            label_set = known.get(values)
            if label_set is None:
                label_set = known[values] = LabelSet(form, values, columns)
                self.stale = True
            found.append(label_set)
        return found

    def _add_form(self, name: str, names: tuple[str, ...]) -> Form:
        label_names = tuple(sorted(names))
        form = self.forms.get((name, label_names))
        if form is None:
            form = self.forms[name, label_names] = Form(self, name, label_names)
            self.plain = self.plain and self._is_plain(name, label_names)
        self.forms[name, names] = form
        return form

    def forget(self) -> None:
        """Forget the label sets that no file has any more."""
        for names, form in list(self.forms.items()):
            gone = [label_set for label_set in form.label_sets.values() if not label_set.is_held]
            for label_set in gone:
                self.size -= form.label_sets.pop(label_set.label_values).size
                self.stale = True
            if not form.label_sets:
                del self.forms[names]

    def settle(self) -> None:
        """Put the label sets in order, by their labels and then by name, after some came or went."""
        texts = self.texts
        self.ordered = self._sorted(list(self.label_sets()))
        self.texts = [texts[each.rank] if each.rank >= 0 else b"" for each in self.ordered]
        for rank, label_set in enumerate(self.ordered):
            label_set.rank = rank
        self.definitions = self._definitions()
        self.stale = False

    def _definitions(self) -> list[tuple[str, ...]]:
        forms = set(self.forms.values())
        if len(forms) == len({form.name for form in forms}):
            return []
        return sorted({form.label_names for form in forms})

    def _sorted(self, label_sets: list[LabelSet]) -> list[LabelSet]:
        names = {form.label_names for form in self.forms.values()}
        if len(names) == 1:
            # Texts are compared several times as fast as tuples. No character is below this one.
            keys = ["\0".join((*each.label_values, each.form.name)) for each in label_sets]
            if sum([key.count("\0") for key in keys]) == len(keys) * len(names.pop()):
                return sorted(label_sets, key=dict(zip(label_sets, keys, strict=True)).__getitem__)
        return sorted(label_sets, key=attrgetter("labels", "name"))

    def sample_names(self) -> set[str]:
        """Return the names of its samples."""
        return {form.name for form in self.forms.values()}

    def merged(self, label_set: LabelSet) -> tuple[float, ...]:
        """Return the values of the samples; none where no file has set any."""
        return (total(label_set.values),)

    def series(self, label_set: LabelSet) -> Sequence[Series]:
        """Return the names and labels of the samples, in the order of :meth:`merged`."""
        return [(label_set.name, label_set.labels)]

    def metric(self) -> Metric:
        """Return the family as prometheus_client has it."""
        metric = Metric(self.name, self.documentation, self.kind.type)
        metric.samples = [
            Sample(name, dict(labels), value)
            for label_set in self.ordered
            if label_set.is_shown
            for (name, labels), value in zip(
                self.series(label_set), self.merged(label_set), strict=False
            )  # without values, no samples
        ]
        return metric

    def _is_plain(self, name: str, label_names: tuple[str, ...]) -> bool:
        # Samples with these names the text format shows as families of their own.
        apart = name.startswith(self.name) and name[len(self.name) :] in ("_created", "_gsum", "_gcount")
        return not apart and all([*map(_PLAIN_NAME, (self.name, name)), *map(_PLAIN_LABEL, label_names)])

    def raw(self, column: int) -> Iterable[tuple[Any, ...]]:
        """Return what one file says, as the arguments of samples before they are merged."""
        for label_set in self.ordered:
            value = label_set.values[column]
            if value is not None and value is not GONE:
                yield label_set.name, label_set.labels, value


def total(values: Sequence[float | None]) -> float:
    """Add values up, rounding once; what is None or zero adds nothing."""
    try:
        return math.fsum(filter(None, values))
    except (OverflowError, ValueError):  # on the way to infinity, or from one infinity to the other
        return sum(filter(None, values))


def mixed(families: Sequence[Family]) -> Metric | None:
    """Merge families of one name that files of different kinds have, as prometheus_client does it.

    That is: the kind of the first file is the metric's, the mode of the last one is a gauge's, and what the
    others have is added to it. One difference: timestamps count only in files of the modes ``mostrecent`` and
    ``livemostrecent``, because of others none are kept.

    Returns:
        The metric; None, with a line in the log, where nothing can be made of it.
    """
    parts = sorted(
        ((family.kind.place(column), column, family) for family in families for column in family.kind.order),
        key=lambda part: part[:2],
    )
    column, first = next((column, family) for _, column, family in parts if column in family.helps)
    metric: Any = Metric(first.name, first.helps[column], first.kind.type)
    mode = ""
    for _, column, family in parts:
        for arguments in family.raw(column):
            metric.add_sample(*arguments)
            if family.kind.type == "gauge":
                mode = family.kind.mode
    if not has_merging():
        return None
    try:
        merged = merge_samples(metric, mode)
    except Exception:
        logger.exception("the metric %s is of several types, which cannot be merged", first.name)
        return None
    merged.samples.sort(key=lambda sample: (sorted(sample.labels.items()), sample.name))
    return merged
