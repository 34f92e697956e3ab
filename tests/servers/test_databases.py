"""The database servers of the tests."""

from __future__ import annotations

from typing import Any

import psycopg
import psycopg2
import pymysql
import pytest

from tests.servers.databases import DatabaseServer, PostgreSQL


def connect(server: DatabaseServer, driver: Any) -> Any:
    name = "database" if driver is pymysql else "dbname"
    return driver.connect(host=server.host, port=server.port, user=server.user, **{name: server.database})


@pytest.mark.parametrize("driver", [psycopg, psycopg2])
def test_postgresql_accepts_a_connection(postgresql: DatabaseServer, driver: Any) -> None:
    connection = connect(postgresql, driver)
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == ("shop",)
    connection.close()


def test_mariadb_accepts_a_connection(mariadb: DatabaseServer) -> None:
    connection = connect(mariadb, pymysql)
    with connection.cursor() as cursor:
        cursor.execute("SELECT database(), @@version")
        name, version = cursor.fetchone()
        assert name == "shop"
        assert "MariaDB" in version
    connection.close()


def test_database_server_keeps_its_port_and_data_after_a_kill() -> None:
    with PostgreSQL() as server:
        connection = connect(server, psycopg)
        connection.execute("CREATE TABLE orders (number INTEGER)")
        connection.commit()
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        connection.close()
        with pytest.raises(psycopg.OperationalError, match="refused"):
            connect(server, psycopg)
        server.start()
        connection = connect(server, psycopg)
        assert connection.execute("SELECT COUNT(*) FROM orders").fetchone() == (0,)
        connection.close()
