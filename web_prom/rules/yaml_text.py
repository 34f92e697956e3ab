"""Groups of rules as YAML, without a library. Any text is quoted so that every reader accepts it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from web_prom.rules.model import Alert, Group, Recording, RuleOptions

# Text that YAML reads as itself at the place of a value: it begins with a letter or a bracket and has neither
# ": " nor " #".
_PLAIN = re.compile(r"[a-z(](?:[^:#]|:(?! |$)|(?<! )#)*")

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def as_yaml(groups: Iterable[Group], options: RuleOptions) -> str:
    """Return a file of rules.

    Args:
        groups: At least one.
        options: What they are made for.
    """
    return "groups:\n" + "\n".join("".join(_group(group, options)) for group in groups)


def quoted(text: str) -> str:
    """Return a double-quoted scalar with the text."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _group(group: Group, options: RuleOptions) -> Iterator[str]:
    yield f"  - name: {group.name}\n    rules:\n"
    for rule in group.rules:
        if isinstance(rule, Recording):
            yield f"      - record: {rule.record}\n{_expression(rule.expr)}"
        else:
            yield from _alert(rule, options)


def _alert(rule: Alert, options: RuleOptions) -> Iterator[str]:
    yield f"      - alert: {rule.alert}\n{_expression(rule.expr)}"
    if rule.wait:
        yield f"        for: {rule.wait}\n"
    yield f"        labels: {{severity: {rule.severity}}}\n        annotations:\n"
    for name, text in rule.annotations(options).items():
        yield f"          {name}: {quoted(text)}\n"


def _expression(expr: str) -> str:
    if _PLAIN.fullmatch(expr) and "\n" not in expr:
        return f"        expr: {expr}\n"
    # Expressions are ASCII without control characters: PromQL's strings escape all others.
    lines = "".join(f"          {line}\n" for line in expr.splitlines())
    return f"        expr: >-\n{lines}"


def _escaped(sign: str) -> str:
    if sign in _ESCAPES:
        return _ESCAPES[sign]
    # A terminal may not be able to show other letters.
    return sign if " " <= sign <= "~" else f"\\U{ord(sign):08x}"
