"""What can be told from the text of an SQL statement without its grammar."""

from __future__ import annotations

import re

BEFORE_WORD = re.compile(r"(?:[\s(;]+|--[^\n]*(?:\n|$)|#[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
"""White space, comments, and parentheses before the first word of a statement.

MySQL executes ``/*! ... */``, but no client begins a statement with it.
"""

# In the patterns below, a text can be read in one way only. So the time to find no match is linear.
_COMMENT = r"--[^\n]*(?:\n|\Z)|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/"
_NAME = r"'[^']*'|\"[^\"]*\"|`[^`]*`"

# One statement, not a text of several: nothing but comments is after a semicolon.
_transaction = re.compile(
    r"(?:BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|SAVE\s+TRAN(?:SACTION)?|PREPARE\s+TRANSACTION"
    r"|XA\s+(?:START|BEGIN|END|PREPARE|COMMIT|ROLLBACK))\b"
    rf"(?:[^;'\"`/-]|/(?!\*)|-(?!-)|{_NAME}|{_COMMENT})*(?:;(?:[\s;]|{_COMMENT})*)?",
    re.IGNORECASE,
)


def begins_or_ends_transaction(sql: str) -> bool:
    """Return whether a text is one statement that begins or ends a transaction or a savepoint."""
    start = BEFORE_WORD.match(sql)
    return _transaction.fullmatch(sql, start.end() if start else 0) is not None
