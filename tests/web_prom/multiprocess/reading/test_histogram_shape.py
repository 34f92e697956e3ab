"""The predicted entries of histograms."""

from __future__ import annotations

import json
import math

import pytest

from tests.web_prom.multiprocess.reading.value_files import key_of
from web_prom.multiprocess.file_format import VALUE, pack_entry
from web_prom.multiprocess.reading.histogram_shape import HistogramShape
from web_prom.multiprocess.reading.keys import decode_key, predict_bucket_key


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"a": "x"},
        {"le_": "x"},
        {"a": 'le": "', "z": '"z": '},
        {"a": "}, {", "b": "", "k": "\0", "m": '"method": ', "method": "\\"},
        {"ünï": "\udcff", "a": "\U0001f600"},
        {"_sum": '_sum", {'},
    ],
)
@pytest.mark.parametrize("name", ["h", "h_sum", 'h_sum", {'])
def test_histogram_shape_predicts_the_entries_of_a_label_set(name: str, labels: dict[str, str]) -> None:
    """There is no prediction for names that contain the suffix of a sum: their keys are parsed one by one."""
    bounds = [json.dumps(le).encode() for le in ("0.1", "1.0", "+Inf")]
    sum_key = key_of(name, f"{name}_sum", labels).encode()
    buckets = [key_of(name, f"{name}_bucket", {**labels, "le": json.loads(le)}).encode() for le in bounds]
    bucket_key = predict_bucket_key(sum_key, decode_key(sum_key)[2])
    if "{" not in name:
        assert bucket_key is not None
        shape = HistogramShape(name, (f"{name}_sum", 0.1, 1.0, math.inf))
        prefixes, template = shape.predict(sum_key, bucket_key)
        entries = [pack_entry(key) for key in (sum_key, *buckets)]
        assert prefixes == b"".join([entry[: -VALUE.size] for entry in entries])
        assert b"".join(template.unpack(b"".join(entries))[::2]) == prefixes
        assert template.size == len(b"".join(entries))
