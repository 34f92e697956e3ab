"""Large documents as JSON: the same text as that of one call of the encoder."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from web_prom.live.json_text import to_json

values: Any = some.recursive(
    some.none()
    | some.booleans()
    | some.floats(allow_nan=False, allow_infinity=False)
    | some.text(max_size=5),
    lambda inner: (
        some.lists(inner, max_size=50) | some.dictionaries(some.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=60,
)


@settings(max_examples=30)
@given(document=some.dictionaries(some.text(max_size=5), values, max_size=5))
def test_to_json_is_that_of_one_call(document: dict[str, Any]) -> None:
    assert to_json(document) == json.dumps(document, separators=(",", ":")).encode()


@pytest.mark.parametrize("count", [0, 1, 20, 21, 40, 41])
def test_to_json_has_all_items_of_long_lists(count: int) -> None:
    document = {"a": {"b": [{"n": number} for number in range(count)]}, "c": list(range(count))}
    assert json.loads(to_json(document)) == document


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_to_json_refuses_what_json_cannot_have(value: float) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        to_json({"a": {"b": value}})
