"""The names of SQLAlchemy's databases: the system and the namespace. No host, no user, no password."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

DEFAULT_NAMESPACE = "default"
"""The namespace of a database whose name is not in the URL, and of Flask-SQLAlchemy's bind without a key."""

# By the name of the dialect, where it differs from OpenTelemetry's name:
# https://opentelemetry.io/docs/specs/semconv/registry/attributes/db/#db-system-name
_SYSTEMS: Mapping[str, str] = {
    "awsathena": "aws.athena",
    "bigquery": "gcp.bigquery",
    "db2": "ibm.db2",
    "firebird": "firebirdsql",
    "hana": "sap.hana",
    "ibm_db_sa": "ibm.db2",
    "informix": "ibm.informix",
    "mssql": "microsoft.sql_server",
    "netezza": "ibm.netezza",
    "oracle": "oracle.db",
    "redshift": "aws.redshift",
    "spanner": "gcp.spanner",
    "spanner+spanner": "gcp.spanner",
    "teradatasql": "teradata",
}


def system_name(dialect: Any) -> str:
    """Return the database system of a dialect, in OpenTelemetry's spelling.

    MySQL's dialect knows only after its first connection whether the server is MariaDB.
    """
    name = str(dialect.name)
    if name == "mysql" and getattr(dialect, "is_mariadb", False):
        return "mariadb"
    return _SYSTEMS.get(name, name)


def namespace_of(engine: Any) -> str:
    """Return the name of an engine's database. Of a file, it is the name without the directories."""
    database = engine.url.database
    if not database:
        return ":memory:" if engine.dialect.name == "sqlite" else DEFAULT_NAMESPACE
    if engine.dialect.name in ("sqlite", "duckdb", "access"):
        return PurePath(str(database).partition("?")[0].removeprefix("file:")).name or DEFAULT_NAMESPACE
    return str(database)
