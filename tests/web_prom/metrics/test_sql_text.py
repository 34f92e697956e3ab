"""Statements that begin or end transactions, by their text."""

from __future__ import annotations

import pytest

from web_prom.metrics.query_tally import open_tally
from web_prom.metrics.sql_text import begins_or_ends_transaction

STATEMENTS = [
    "BEGIN",
    "begin immediate",
    "BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT",
    "COMMIT AND CHAIN",
    "COMMIT PREPARED '_sa_1f;2'",
    "END",
    "ABORT",
    "ROLLBACK TO SAVEPOINT a",
    "SAVEPOINT a",
    'SAVEPOINT "a;b"',
    "SAVEPOINT `a-b/c--d`",
    "RELEASE SAVEPOINT a",
    "SAVE TRANSACTION a",
    "save tran a",
    "PREPARE TRANSACTION 'x'",
    *(f"XA {word} 'a'" for word in ("START", "BEGIN", "END", "PREPARE", "COMMIT", "ROLLBACK")),
    "XA COMMIT 'a' ONE PHASE",
]

AROUND = [
    "{}",
    "  \n{}\t",
    "{};",
    "{} ; \n;",
    "/* who */ {}",
    "/* a */ /* b; */\n-- c; d\n# e\n{}",
    "{} /*controller='items',route='%2Fitems'*/",
    "{} /* a; b */ -- c; d",
    "{}; /* a; b */",
    "{}; -- end",
    "/***/ {} /* * / ** */;",
]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("statement", STATEMENTS)
def test_statement_with_comments_begins_or_ends_a_transaction(statement: str, around: str) -> None:
    assert begins_or_ends_transaction(around.format(statement))


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "/* BEGIN */",
        "SELECT 1",
        "/* BEGIN */ SELECT 1",
        "-- COMMIT\nSELECT 1",
        "BEGIN; SELECT 1",
        "BEGIN; /* a */ SELECT 1; END",
        "COMMIT /* a */; DELETE FROM t; -- b",
        "SAVEPOINT 'a'; SELECT 1",
        "COMMIT /* not closed",
        "BEGINNING",
        "SAVE",
        "SAVEPOINTS",
        "SAVES TRANSACTION x",
        "XA RECOVER",
        "PREPARE x AS SELECT 1",
        "SET TRANSACTION READ ONLY",
        "CALL commit()",
    ],
)
def test_other_statement_begins_and_ends_no_transaction(sql: str) -> None:
    assert not begins_or_ends_transaction(sql)


@pytest.mark.parametrize("begin", ["", "SAVEPOINT "])
@pytest.mark.parametrize(
    "part", ["/*", "/**/", "/* */ ", "-- x\n", "'a'", "'", "- ", "/", " ", "a", '"`', "(", "*/"]
)
def test_long_text_takes_linear_time(begin: str, part: str) -> None:
    assert not begins_or_ends_transaction(f"{begin}{part * 50_000}; SELECT 1")


@pytest.mark.parametrize("around", AROUND)
def test_tally_counts_savepoints_with_comments_as_no_repeated_queries(around: str) -> None:
    tally = open_tally(None)
    for _ in range(5):
        tally.add(around.format("SAVEPOINT a"), 0.0)
        tally.add("/* BEGIN */ SELECT 1", 0.0)
    totals = tally.close()
    assert totals is not None
    assert (totals.queries, totals.repeated) == (10, 3)
