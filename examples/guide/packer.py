"""A worker without a web server. It packs the parcels that wait in a database.

::

    python -m guide.packer order shop.db post 12           # puts twelve parcels into the queue
    python -m guide.packer work shop.db post --port 9100   # packs what is to go by post, until it is killed

Orders come from other programs, so this program cannot update a gauge by adding and subtracting. The
collector queries the database, once for each scrape.
"""

import argparse
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing

from prometheus_client import Counter
from prometheus_client.core import REGISTRY, GaugeMetricFamily

from web_prom import start_http_server

PACKED = Counter("shop_parcels_packed", "Parcels that were taken from the queue.", ["carrier", "outcome"])
FRAGILE = 5  # every fifth parcel breaks


class WaitingParcels:
    """Collects the number of waiting parcels for each carrier."""

    def __init__(self, database: str) -> None:
        self._database = database

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Return only the name, so that the registration does not query the database."""
        yield GaugeMetricFamily("shop_parcels_waiting", "Parcels in the queue.", labels=["carrier"])

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Count rows: called for each scrape, in the scrape's thread, hence with a connection of its own."""
        (family,) = self.describe()
        with closing(opened(self._database)) as database:
            for carrier, parcels in database.execute(
                "SELECT carrier, count(*) FROM parcels GROUP BY carrier ORDER BY carrier"
            ):
                family.add_metric([carrier], parcels)
        yield family


def opened(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=30)
    with database:
        database.execute("CREATE TABLE IF NOT EXISTS parcels (number INTEGER PRIMARY KEY, carrier TEXT)")
    return database


def order(path: str, carrier: str, parcels: int) -> None:
    with closing(opened(path)) as database, database:
        database.executemany("INSERT INTO parcels (carrier) VALUES (?)", [(carrier,)] * parcels)


def work(path: str, carrier: str, port: int) -> None:
    REGISTRY.register(WaitingParcels(path))
    start_http_server(port, addr="127.0.0.1")
    with closing(opened(path)) as database:
        while True:
            found = database.execute(
                "SELECT min(number) FROM parcels WHERE carrier = ?", [carrier]
            ).fetchone()
            if found[0] is None:
                time.sleep(0.1)
                continue
            with database:
                database.execute("DELETE FROM parcels WHERE number = ?", found)
            PACKED.labels(carrier, "ok" if found[0] % FRAGILE else "broken").inc()


def main() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("order", "work"):
        added = commands.add_parser(command)
        added.add_argument("database")
        added.add_argument("carrier")
        if command == "order":
            added.add_argument("parcels", type=int)
        else:
            added.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    if given.command == "order":
        order(given.database, given.carrier, given.parcels)
    else:
        work(given.database, given.carrier, given.port)


if __name__ == "__main__":
    main()
