"""Helpers for the tests of the live page."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

import web_prom.live

SCHEMA = Path(web_prom.live.__file__).with_name("snapshot.schema.json")


@cache
def validator() -> Any:
    """Return the validator of the schema, which is valid itself."""
    schema = json.loads(SCHEMA.read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def valid(document: dict[str, Any]) -> dict[str, Any]:
    """Return a snapshot that the schema allows."""
    validator().validate(document)
    return document
