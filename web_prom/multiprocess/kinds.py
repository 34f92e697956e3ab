"""What all files of one kind have in common: known keys, families, and a column for each file."""

from __future__ import annotations

from heapq import heappop, heappush

from web_prom.multiprocess.chunks import layout_of, prefixes_of
from web_prom.multiprocess.histograms import Histogram, Shape
from web_prom.multiprocess.keys import Key, Labels
from web_prom.multiprocess.layout import VALUE, FileName
from web_prom.multiprocess.merging import (
    Family,
    GaugeOfAll,
    GreatestGauge,
    LabelSet,
    LatestGauge,
    LeastGauge,
    SumOfGauges,
)

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


class Foretold:
    """The run of entries that the key of a histogram's ``_sum`` foretells, in any file that has it.

    Attributes:
        label_set: Whose entries they are.
        shape: Which entries.
        layout: Where their values are.
        prefixes: What stands before each value, put together.
        gather: Takes that out of a file, in parts.
        first: Where the first value is, from the first entry's beginning, in bytes.
        size: From the first entry's beginning to the last one's end, in bytes.
    """

    __slots__ = ("first", "gather", "label_set", "layout", "prefixes", "shape", "size")

    def __init__(self, label_set: LabelSet, shape: Shape, prefixes: bytes, lengths: tuple[int, ...]) -> None:
        self.label_set = label_set
        self.shape = shape
        self.prefixes = prefixes
        self.gather = prefixes_of(lengths)
        self.layout = layout_of(lengths)
        self.first = lengths[0]
        self.size = len(prefixes) + len(lengths) * VALUE.size


class Kind:
    """The files of one type and, for gauges, of one mode.

    Attributes:
        type: ``counter``, ``gauge``, ``histogram`` or ``summary``.
        mode: A gauge's ``multiprocess_mode``.
        has_pairs: Whether timestamps count.
        keys: The label set that each key belongs to; not for histograms.
        foretold: For the key of a histogram's ``_sum``, the whole run of entries that it begins.
        families: By name.
        owners: Who writes the file at each column.
        order: The columns in use, in the fixed order of their files.
        lost: Whether a file has gone, so that label sets may be without any.
    """

    def __init__(self, type: str, mode: str) -> None:
        self.type = type
        self.mode = mode
        self.has_pairs = mode in ("mostrecent", "livemostrecent")
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
        self._items: dict[tuple[str, str], tuple[str, str]] = {}

    def add_column(self, name: FileName) -> int:
        """Return a column for a file, which it does not share with any other."""
        slot = name.slot
        place = (slot is None, slot or 0, str(name))
        if self._free:
            column = heappop(self._free)
            self._places[column], self.owners[column] = place, name.owner
        else:
            column = len(self._places)
            self._places.append(place)
            self.owners.append(name.owner)
            for family in self.families.values():
                for label_set in family.label_sets.values():
                    label_set.values.append(None)
        self.order = sorted((*self.order, column), key=self.place)
        return column

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
        """Read a key; asked twice in a row for the same one, it is read once."""
        if self._last is None or self._last[0] != key:
            self._last = key, Key.parse(key)
        return self._last[1]

    def learn(self, key: bytes) -> LabelSet:
        """Return the label set of a key not seen before.

        Raises:
            DamagedFileError: The key cannot be.
        """
        parsed = Key.parse(key)
        labels = parsed.labels
        if self.mode and self._family is not GaugeOfAll:
            labels = tuple(item for item in labels if item[0] != "pid")
        label_set = self.keys[key] = self.label_set(parsed.family, parsed.sample, labels)
        return label_set

    def foretell(self, key: bytes) -> Foretold | None:
        """Return the run of entries that a key seen for the first time begins, if it can be known.

        Raises:
            DamagedFileError: The key cannot be.
        """
        parsed = self.parse(key)
        family = self.families.get(parsed.family)
        if not isinstance(family, Histogram) or family.usual is None or parsed.sample != family.name + "_sum":
            return None
        entries = parsed.foretell(key, family.usual.le_json)
        if entries is None or parsed.bound() is not None:
            return None
        label_set = self.label_set(family.name, family.name, parsed.labels)
        found = self.foretold[key] = Foretold(label_set, family.usual, *entries)
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
        family = self.families.get(family_name)
        if family is None:
            family = self.families[family_name] = self._family(self, family_name)
        # Most label sets share most of their labels: one pair for all of them.
        labels = tuple([self._items.setdefault(item, item) for item in labels])
        return family.add(name, labels, len(self._places))

    def forget(self) -> None:
        """Forget what no file has any more."""
        self.lost = False
        for family in list(self.families.values()):
            family.forget()
            if not family.label_sets:
                del self.families[family.name]
        self.keys = {key: label_set for key, label_set in self.keys.items() if label_set.is_held}
        self.foretold = {key: run for key, run in self.foretold.items() if run.label_set.is_held}
        self._items.clear()
