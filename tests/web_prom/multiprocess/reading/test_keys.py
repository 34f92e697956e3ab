"""Parsing of the keys of value files."""

from __future__ import annotations

import pytest

from tests.web_prom.multiprocess.reading.value_files import key_of
from web_prom.multiprocess.file_entries import CorruptFileError
from web_prom.multiprocess.reading.keys import decode_similar_keys

SIMILAR = [key_of("a", "a_total", {"x": str(number), "y": ""}).encode() for number in range(20)]


def test_decode_similar_keys_returns_the_values_of_each_label() -> None:
    assert decode_similar_keys(SIMILAR) == ("a", "a_total", {"x": list(map(str, range(20))), "y": [""] * 20})


@pytest.mark.parametrize("before", [0, 7, 20])
@pytest.mark.parametrize(
    "odd",
    [
        key_of("a", "a_total", {"x": "1", "y": "2"}, "Other."),
        key_of("a", "a_total", {"x": "1", "z": "2"}),
        key_of("a", "a_total", {"x": "1"}),
        key_of("a", "a_total", {"x": "1", "y": "2", "z": "3"}),
        key_of("a", "a_sum", {"x": "1", "y": "2"}),
        key_of("a", "a_total", {"x": 'quo"ted', "y": "2"}),
        key_of("a", "a_total", {"x": "ünï", "y": "\0"}),
        '["a", "a_total", {"x": "1", "x": "2"}, "Help."]',
        '["a", "a_total", {"y": "1", "x": "2"}, "Help."]',
        '["a", "a_total", {"x": "1", "y": "2\n"}, "Help."]',
        '["a", "a_total", {"x": "1", "y": "\x01"}, "Help."]',
        '["a", "a_total", {"x": "1\x012"}, "Help."]',
        '["a", "a_total", {"x": "1", "y": 2}, "Help."]',
        '["a", "a_total", {"x": "1", "y": "2"}, "Help."] ',
        '["a", "a_total", {"x": "1"2", "y": "2"}, "Help."]',
        "",
    ],
)
def test_decode_similar_keys_refuses_keys_that_differ_in_anything_else(odd: str, before: int) -> None:
    try:
        assert decode_similar_keys([*SIMILAR[:before], odd.encode(), *SIMILAR[before:]]) is None
    except CorruptFileError:
        assert before == 0
