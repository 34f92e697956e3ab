"""Numbers as the text formats write them."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.utils import floatToGoString

from web_prom.text_format import format_number


@given(st.one_of(st.floats(), st.integers(-(2**60), 2**60).map(float)))
@example(1e6)
@example(999999.9999999999)
@example(-0.0)
@example(math.inf)
@example(-math.inf)
@example(math.nan)
def test_format_number_writes_numbers_as_prometheus_client_does(value: float) -> None:
    assert format_number(value) == floatToGoString(value)  # type: ignore[no-untyped-call]
