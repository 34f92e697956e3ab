"""Blocks of children of an instrument, with the cached templates of their lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import is_
from typing import Any

from web_prom.exposition.encoding.child_values import created_of
from web_prom.exposition.encoding.line_templates import TemplateSection
from web_prom.upstream.children import label_values

# Prometheus asks for one or two formats. One of them has two sections.
_MAX_TEMPLATES = 3


class ChildBlock:
    """Consecutive children of an instrument.

    Attributes:
        children: The children.
        created: Their creation times; zeros if these are not written.
    """

    __slots__ = ("_templates", "children", "created")

    def __init__(self, children: list[Any], created: list[float]) -> None:
        self.children = children
        self.created = created
        self._templates: dict[str, str] = {}

    def template(self, section: TemplateSection, lines: Sequence[int]) -> str:
        """Return the lines of the children in a section, as a template that takes their values.

        Args:
            section: The section.
            lines: Which of the lines of each child are wanted. A selection is cut out of the whole template
                at each scrape and not cached, so that requests for many different names do not displace the
                whole template.
        """
        whole = self._whole_template(section)
        count = len(section.line_samples)
        if len(lines) == count:
            return whole
        all_lines = whole.split("\n")
        rows = zip(*[all_lines[line:-1:count] for line in lines], strict=True)
        return "".join([f"{line}\n" for line in chain.from_iterable(rows)])

    def _whole_template(self, section: TemplateSection) -> str:
        template = self._templates.get(section.child_template)
        if template is None:
            values = list(map(label_values, self.children))
            template = section.template(values, map(float, self.created))
            cached = self._templates if len(self._templates) < _MAX_TEMPLATES else {}
            self._templates = {**cached, section.child_template: template}
        return template


def update_blocks(
    blocks: Sequence[ChildBlock], children: list[Any], size: int, *, shows_created: bool
) -> list[ChildBlock]:
    """Return blocks of the current children. Blocks whose children are unchanged are reused.

    Args:
        blocks: The blocks of the previous scrape.
        children: The current children.
        size: The largest number of children in a block.
        shows_created: Whether the creation times are written.
    """
    previous = {id(block.children): block for block in blocks}
    runs = _runs([block.children for block in blocks], children, size)
    updated = []
    for run in _join_small(runs, size):
        created = created_of(run) if shows_created else [0.0] * len(run)
        block = previous.get(id(run))
        # Counter.reset() replaces the creation time by another object.
        if block is None or not all(map(is_, created, block.created)):
            block = ChildBlock(run, created)
        updated.append(block)
    return updated


def _runs(previous: Iterable[list[Any]], children: list[Any], size: int) -> Iterator[list[Any]]:
    """Yield the previous runs that are unchanged, the rest of the changed ones, and runs of new children."""
    at = 0
    for run in previous:
        start, end = at, at + len(run)
        if children[start:end] == run:
            at = end
            yield run
        else:
            for child in run:
                if at < len(children) and children[at] is child:
                    at += 1
            yield children[start:at]
    for start in range(at, len(children), size):
        yield children[start : start + size]


def _join_small(runs: Iterable[list[Any]], size: int) -> Iterator[list[Any]]:
    """Join small neighbouring runs. Children that come and go one by one would leave runs of one child."""
    last: list[Any] = []
    for run in runs:
        if not last:
            last = run
        elif len(last) + len(run) <= size:
            last = last + run
        else:
            yield last
            last = run
    if last:
        yield last
