"""What all files of one kind have in common: known keys, families, and a column for each file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from itertools import chain

from web_prom.multiprocess.file_format import REMOVED, REMOVING, FileName, removed_value
from web_prom.multiprocess.reading.gauges import (
    GaugeOfAll,
    GreatestGauge,
    LatestGauge,
    LeastGauge,
    SumOfGauges,
)
from web_prom.multiprocess.reading.histograms import Foretold, Histogram, Shape
from web_prom.multiprocess.reading.keys import DamagedFileError, Key, Labels, decode, take_apart
from web_prom.multiprocess.reading.merged_family import Family, LabelSet

# Fewer keys are read one by one for less; of more, the first are out of the processor's cache before they are
# looked at again.
_LEAST_TOGETHER, _MOST_TOGETHER = 8, 512

_SUFFIXES = {
    "counter": ("_total", "_created"),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "summary": ("_count", "_sum", "_created"),
}
"""By type, what the names of samples have after that of their family."""

Place = tuple[bool, int, str]
"""Where a file stands in the fixed order: by slot, and then those that belong to no slot, by name."""

FAMILIES: dict[str, type[Family]] = {
    "counter": Family,
    "summary": Family,
    "histogram": Histogram,
    **dict.fromkeys(("min", "livemin"), LeastGauge),
    **dict.fromkeys(("max", "livemax"), GreatestGauge),
    **dict.fromkeys(("sum", "livesum"), SumOfGauges),
    **dict.fromkeys(("mostrecent", "livemostrecent"), LatestGauge),
}
"""By type or by a gauge's mode; any other mode is merged as ``all`` is."""


class Kind:
    """The files of one type and, for gauges, of one mode.

    Attributes:
        type: ``counter``, ``gauge``, ``histogram`` or ``summary``.
        mode: A gauge's ``multiprocess_mode``.
        has_pairs: Whether timestamps count.
        removed: What the value of a removed entry is.
        keys: The label set that each key belongs to; not for histograms.
        foretold: For the key of a histogram's ``_sum``, the whole run of entries that it begins.
        families: By name.
        texts: The values of labels, each once.
        owners: Who writes the file at each column.
        order: The columns in use, in the fixed order of their files.
        lost: Whether a file has gone, so that label sets may be without any.
    """

    def __init__(self, type: str, mode: str) -> None:
        self.type = type
        self.mode = mode
        self.has_pairs = mode in ("mostrecent", "livemostrecent")
        several = type in ("histogram", "summary")
        self.removed = (REMOVED, REMOVING) if several else (removed_value(mode),)
        self.keys: dict[bytes, LabelSet] = {}
        self.foretold: dict[bytes, Foretold] = {}
        self.families: dict[str, Family] = {}
        self.owners: list[str] = []
        self.order: list[int] = []
        self.lost = False
        self._family = FAMILIES.get(mode or type, GaugeOfAll)
        self._places: list[Place] = []
        self._free: list[int] = []
        self._last: tuple[bytes, Key] | None = None
        # Most label sets share most of the values of their labels: one text for all of them.
        self.texts: dict[str, str] = {}
        self._room = 0

    def add_column(self, name: FileName) -> int:
        """Return a column for a file, which it does not share with any other."""
        slot = name.slot
        place = (slot is None, slot or 0, str(name))
        if self._free:
            column = heappop(self._free)
            self._places[column], self.owners[column] = place, name.pid_label
        else:
            column = len(self._places)
            self._places.append(place)
            self.owners.append(name.pid_label)
            self.reserve(column + 1)
        self.order = sorted((*self.order, column), key=self.place)
        return column

    def reserve(self, columns: int) -> None:
        """Have room in every label set for so many columns, which is cheaper than for one after the other."""
        more = columns - self._room
        if more > 0:
            self._room = columns
            for family in self.families.values():
                for label_set in family.label_sets():
                    label_set.values += [None] * more

    def remove_column(self, column: int) -> None:
        """Take a column back, where no value may be left."""
        self.order.remove(column)
        heappush(self._free, column)
        for family in self.families.values():
            family.helps.pop(column, None)
        self.lost = True

    def place(self, column: int) -> Place:
        """Return where the file of a column stands in the fixed order."""
        return self._places[column]

    def parse(self, key: bytes) -> Key:
        """Read a key; asked twice in a row for the same one, it is read once.

        Raises:
            DamagedFileError: It is none that a file of this type has.
        """
        if self._last is None or self._last[0] != key:
            parsed = Key.parse(key)
            self._check(parsed.family, parsed.sample)
            self._last = key, parsed
        return self._last[1]

    def learn(self, keys: Iterable[bytes]) -> None:
        """Find the label sets of keys not seen before.

        Raises:
            DamagedFileError: A key cannot be.
        """
        alike: dict[bytes, list[bytes]] = defaultdict(list)
        for key in keys:
            alike[key.partition(b"{")[0]].append(key)
        for group in chain.from_iterable(map(_in_parts, alike.values())):
            together = take_apart(group) if len(group) >= _LEAST_TOGETHER else None
            if together is not None:
                family, sample, labels = together
                self._learn(group, family, sample, labels)
            else:
                for key in group:
                    family, sample, one, _ = decode(key)
                    self._learn((key,), family, sample, {label: [value] for label, value in one.items()})

    def _learn(self, keys: Sequence[bytes], family: str, sample: str, labels: dict[str, list[str]]) -> None:
        if self.mode and self._family is not GaugeOfAll:
            labels.pop("pid", None)
        self._check(family, sample)
        label_sets = self._family_of(family).add_all(sample, labels, len(keys), self._room)
        self.keys.update(zip(keys, label_sets, strict=True))

    def foretell(self, key: bytes) -> Foretold | None:
        """Return the run of entries that a key seen for the first time begins, if it can be known.

        Raises:
            DamagedFileError: The key cannot be.
        """
        if b'_sum", {' not in key:
            return None
        name, sample, labels, _ = decode(key)
        family = self.families.get(name)
        if not isinstance(family, Histogram) or sample != family.name + "_sum" or "le" in labels:
            return None
        found = family.foretell(key, labels, self._room)
        if found is not None:
            self.foretold[key] = found
        return found

    def see(self, family: Histogram, shape: Shape) -> None:
        """Foretell the runs of a family by a shape, if it is the longest one seen."""
        if shape.plain and (family.usual is None or len(shape.entries) > len(family.usual.entries)):
            family.usual = shape
            self.foretold = {
                key: each for key, each in self.foretold.items() if each.label_set.family is not family
            }

    def label_set(self, family_name: str, name: str, labels: Labels) -> LabelSet:
        """Return a label set, made if there is none yet.

        Raises:
            DamagedFileError: prometheus_client does not allow the name.
        """
        return self._family_of(family_name).add(name, dict(labels), self._room)

    def _check(self, family: str, sample: str) -> None:
        """Raise DamagedFileError for a sample that no file of this type has.

        The content of another file would change the type of a family that other files have.
        """
        if not (sample.startswith(family) and sample[len(family) :] in _SUFFIXES[self.type]):
            raise DamagedFileError(f"it has the sample {sample[:200]!r} of the {self.type} {family[:200]!r}")

    def _family_of(self, name: str) -> Family:
        family = self.families.get(name)
        if family is None:
            family = self.families[name] = self._family(self, name)
        return family

    def forget(self) -> None:
        """Forget what no file has any more."""
        self.lost = False
        for family in list(self.families.values()):
            family.forget()
            if not family.forms:
                del self.families[family.name]
        self.keys = {key: label_set for key, label_set in self.keys.items() if label_set.is_held}
        self.foretold = {key: run for key, run in self.foretold.items() if run.label_set.is_held}
        self.texts.clear()


def _in_parts(keys: list[bytes]) -> Iterable[list[bytes]]:
    return [keys[start : start + _MOST_TOGETHER] for start in range(0, len(keys), _MOST_TOGETHER)]
