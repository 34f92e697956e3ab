"""The operation of an SQL statement, from a closed list. No value of a statement becomes a label."""

from __future__ import annotations

import re
from functools import lru_cache

from web_prom.metrics.labels import OTHER
from web_prom.metrics.sql_text import BEFORE_WORD

OPERATIONS = frozenset({
    "ALTER", "ANALYZE", "ATTACH", "BEGIN", "CALL", "CLOSE", "COMMENT", "COMMIT", "COPY", "CREATE",
    "DECLARE", "DELETE", "DETACH", "DISCARD", "DO", "DROP", "EXECUTE", "EXPLAIN", "FETCH", "GRANT",
    "INSERT", "LISTEN", "LOAD", "LOCK", "MERGE", "NOTIFY", "PRAGMA", "PREPARE", "REFRESH", "REINDEX",
    "RELEASE", "RENAME", "REPLACE", "RESET", "REVOKE", "ROLLBACK", "SAVEPOINT", "SELECT", "SET", "SHOW",
    "START", "TRUNCATE", "UNLISTEN", "UPDATE", "USE", "VACUUM", "VALUES",
})  # fmt: skip
"""The values of the label ``db_operation_name``. Any other operation is ``_OTHER``."""

_ALIASES = {"END": "COMMIT", "EXEC": "EXECUTE", "DESC": "EXPLAIN", "DESCRIBE": "EXPLAIN", "TABLE": "SELECT"}

# In a CTE, the first of these words outside of parentheses is the operation of the statement.
_AFTER_WITH = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "VALUES"})

# A longer text is not a key of a cache, because a cache of long texts would need much memory.
_MAX_CACHED_LENGTH = 1000

_WORD = re.compile(r"(?:[\s(;]+|--[^\n]*(?:\n|$)|#[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
_WORD = re.compile(r"[A-Za-z]+")
# What matters of a CTE: comments, strings, quoted names, parentheses, and the words above. Parentheses that
# have none of these inside are one token, because a list can have many of them.
_TOKEN = re.compile(
    r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\$(\w*)\$.*?\$\1\$"
    r"|\([^()'\"`$/-]*\)|[()]|\b(?:" + "|".join(sorted(_AFTER_WITH)) + r")\b",
    re.DOTALL | re.IGNORECASE,
)


def operation_name(sql: str) -> str:
    """Return the operation of an SQL statement in capitals, or ``_OTHER``.

    Comments and parentheses before the statement are skipped. The operation of a statement with a CTE is the
    one after the CTE. Of several statements in one text, the first one counts.
    """
    return _cached_name(sql) if len(sql) <= _MAX_CACHED_LENGTH else _find_name(sql)


def _find_name(sql: str) -> str:
    start = BEFORE_WORD.match(sql)
    word = _WORD.match(sql, start.end() if start else 0)
    if word is None:
        return OTHER
    name = word.group().upper()
    if name == "WITH":
        name = _name_after_with(sql, word.end())
    name = _ALIASES.get(name, name)
    return name if name in OPERATIONS else OTHER


_cached_name = lru_cache(maxsize=500)(_find_name)


def _name_after_with(sql: str, position: int) -> str:
    depth = 0
    for token in _TOKEN.finditer(sql, position):
        text = token.group()
        if text == "(":
            depth += 1
        elif text == ")":
            depth -= 1
        elif depth == 0 and text.upper() in _AFTER_WITH:
            return text.upper()
    return OTHER
