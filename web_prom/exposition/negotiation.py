"""Content negotiation: the text format and the compression that a client accepts."""

from __future__ import annotations

import contextlib
import functools
import re

from prometheus_client.exposition import choose_encoder

from web_prom.exposition.encoding.colon_names import keep_colons
from web_prom.exposition.encoding.encoder import Encode

_OPENMETRICS_VERSION = re.compile("application/openmetrics-text; version=([^;]*)")


def encoder_for(accept: str | None) -> tuple[Encode, str]:
    """Return the encoder and the content type that prometheus_client chooses for an Accept header.

    The default format is used if prometheus_client cannot parse the header (``version=abc``), or if the
    content type would contain characters that are not allowed in a header.
    """
    try:
        encoder, content_type = choose_encoder(accept or "")
    except Exception:
        return choose_encoder("")
    if not (content_type.isascii() and content_type.isprintable()):
        return choose_encoder("")
    return keep_colons(encoder), content_type


def with_known_version(encode: Encode, content_type: str) -> tuple[Encode, str]:
    """Return an encoder and a content type with a version of OpenMetrics that the encoder distinguishes.

    prometheus_client repeats any version that a client sends, and writes the same text for all versions
    below 2. Without this function, each invented version would cause another encoding of all metrics.
    """
    found = _OPENMETRICS_VERSION.match(content_type)
    if found is None:
        return encode, content_type
    numbers: list[int] = []
    with contextlib.suppress(ValueError):
        numbers.extend(int(part) for part in found[1].split("."))
    version = "2.0.0" if tuple(numbers) >= (2, 0, 0) else "1.0.0"
    if isinstance(encode, functools.partial) and "version" in encode.keywords:
        encode = functools.partial(encode, version=version)
    return encode, f"{content_type[: found.start(1)]}{version}{content_type[found.end(1) :]}"


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding header allows gzip.

    See https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3.
    """
    wildcard = False
    for item in accept_encoding.split(","):
        coding, *parameters = (part.strip(" \t").lower() for part in item.split(";"))
        if coding in ("gzip", "x-gzip", "*"):
            allowed = not any(_is_zero_weight(parameter) for parameter in parameters)
            if coding != "*":
                return allowed
            wildcard = allowed
    return wildcard


def _is_zero_weight(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    try:
        return name.strip(" \t") == "q" and float(value) == 0
    except ValueError:
        return True  # a weight that is not a number is treated as 0
