"""Send the traffic to a Django project that django-prometheus or web-prom measures.

Usage: ``python -m tests.migration.django_run theirs|ours|migrate DATABASE SETTINGS``, with the file of an
SQLite database, and further settings as JSON. It prints the exposition, or creates the database.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from contextlib import suppress
from typing import Any

import django
from django.conf import settings
from django.core.cache import cache
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from prometheus_client import generate_latest

from tests.migration.traffic import TRAFFIC, Request

MIDDLEWARE = {
    "theirs": [
        "django_prometheus.middleware.PrometheusBeforeMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django_prometheus.middleware.PrometheusAfterMiddleware",
    ],
    "ours": ["django.middleware.common.CommonMiddleware"],
}
APPS = {"theirs": ["django_prometheus"], "ours": ["django_prom"], "migrate": []}
ENGINES = {"theirs": "django_prometheus.db.backends.sqlite3"}
CACHES = {"theirs": "django_prometheus.cache.backends.locmem.LocMemCache"}


def configure(library: str, database: str, more: dict[str, Any]) -> None:
    """Configure Django."""
    loader = ("django.template.loaders.locmem.Loader", {"page.html": "page"})
    engine = ENGINES.get(library, "django.db.backends.sqlite3")
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="tests.migration.django_site",
        INSTALLED_APPS=[*APPS[library], "django.contrib.contenttypes", "tests.migration.orders"],
        MIDDLEWARE=MIDDLEWARE.get(library, []),
        CACHES={"default": {"BACKEND": CACHES.get(library, "django.core.cache.backends.locmem.LocMemCache")}},
        DATABASES={"default": {"ENGINE": engine, "NAME": database}},
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {"loaders": [loader]},
            }
        ],
        LOGGING_CONFIG=None,
        USE_TZ=True,
        **more,
    )
    django.setup()


def send() -> None:
    """Send the traffic, and a request for a page with a template."""
    client = Client(raise_request_exception=False)
    for each in (*TRAFFIC, Request("GET", "/page")):
        response = client.generic(
            each.method, each.path, each.body, headers=each.headers if each.ajax else None
        )
        response.getvalue()
        response.close()


def use_database() -> None:
    """Execute statements of all kinds."""
    from tests.migration.orders.models import Order

    order = Order.objects.create(name="a")
    order.name = "b"
    order.save()
    Order.objects.count()
    with transaction.atomic():
        Order.objects.create(name="c").delete()
    order.delete()
    with suppress(DatabaseError), connection.cursor() as cursor:
        cursor.execute("SELECT * FROM nothing")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO orders_order (name) VALUES (%s)", [["d"], ["e"], ["f"]])


def use_cache() -> None:
    """Get keys that are in the cache, and keys that are not."""
    cache.set("a", 1)
    cache.get("a")
    cache.get("b")
    cache.get("b", "default")
    cache.get_many(["a", "b"])
    cache.add("a", 2)
    cache.delete("a")


def fail_to_connect() -> None:
    """Try to connect to a database that cannot be opened."""
    connection.close()
    connection.settings_dict["NAME"] = "/no/such/folder/database"
    with suppress(DatabaseError):
        connection.ensure_connection()


def scrape(library: str) -> str:
    """Return the exposition."""
    if library == "theirs":
        return generate_latest().decode()
    text = ""
    for _ in range(100):  # the state of migrations is read in a thread
        text = Client().get("/metrics").content.decode()
        if "migrations_applied_total{" in text or not settings.PROM_MIGRATIONS:
            break
        time.sleep(0.1)
    return text


if __name__ == "__main__":
    logging.disable()
    mode, database = sys.argv[1:3]
    configure(mode, database, json.loads(sys.argv[3]))
    if mode == "migrate":
        call_command("migrate", run_syncdb=True, verbosity=0)
    else:
        send()
        use_database()
        use_cache()
        scrape(mode)
        fail_to_connect()
        sys.stdout.write(scrape(mode))
