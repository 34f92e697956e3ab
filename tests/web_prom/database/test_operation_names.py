"""The operation of an SQL statement."""

from __future__ import annotations

import pytest

from web_prom.database.operation_names import OPERATIONS, operation_name


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", "SELECT"),
        ("select 1", "SELECT"),
        ("\n  (SELECT 1) UNION (SELECT 2)", "SELECT"),
        ("INSERT INTO t VALUES (1)", "INSERT"),
        ("-- who asks\nUPDATE t SET a = 1", "UPDATE"),
        ("/* route: /items */ DELETE FROM t", "DELETE"),
        ("/* a */ -- b\n # c\n SELECT 1", "SELECT"),
        ("COPY item TO STDOUT", "COPY"),
        ("SAVEPOINT s1", "SAVEPOINT"),
        ("ROLLBACK TO SAVEPOINT s1", "ROLLBACK"),
        ("RELEASE SAVEPOINT s1", "RELEASE"),
        ("BEGIN", "BEGIN"),
        ("START TRANSACTION", "START"),
        ("end", "COMMIT"),
        ("EXEC sp_who", "EXECUTE"),
        ("describe item", "EXPLAIN"),
        ("TABLE item", "SELECT"),
        ("PRAGMA foreign_keys", "PRAGMA"),
        ("DECLARE c CURSOR FOR SELECT 1", "DECLARE"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "SELECT"),
        ("WITH RECURSIVE a(n) AS (SELECT 1 UNION SELECT n FROM a) INSERT INTO t SELECT n FROM a", "INSERT"),
        ("WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a", "SELECT"),
        ("WITH \"select\" AS (VALUES (')')) UPDATE t SET a = 1", "UPDATE"),
        ("WITH a AS (SELECT $$)$$, ')', /* ) */ 1) DELETE FROM t", "DELETE"),
        ("WITH a AS (SELECT 1 WHERE b IN (1, 2) OR c IN ('(', 3)) UPDATE t SET a = 1", "UPDATE"),
        ("WITH selected (insert_id) AS (VALUES (1), (2)) delete FROM t", "DELETE"),
        ("WITH a AS (VALUES " + "(1), " * 1000 + "(2)) SELECT 1", "SELECT"),
        ("WITH a AS (SELECT 1)", "_OTHER"),
        ("WITH", "_OTHER"),
        ("", "_OTHER"),
        ("   ", "_OTHER"),
        ("42", "_OTHER"),
        ("/* not closed", "_OTHER"),
        ("DROPPED TABLE x", "_OTHER"),
        ("\x00SELECT", "_OTHER"),
        ("SELECT" + " a," * 1000, "SELECT"),
    ],
)
def test_operation_name_is_from_the_closed_list(sql: str, expected: str) -> None:
    assert operation_name(sql) == expected
    assert expected in OPERATIONS | {"_OTHER"}


@pytest.mark.parametrize("begin", ["/*" * 50_000, "-- x\n" * 20_000, "(" * 100_000, "WITH " + "(" * 100_000])
def test_operation_name_of_a_long_text_takes_linear_time(begin: str) -> None:
    """A text that a regular expression could search again and again ends, too."""
    assert operation_name(begin) == "_OTHER"
