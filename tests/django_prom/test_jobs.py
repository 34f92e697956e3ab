"""Measurements of a Django project in a worker of Celery, which loads no middleware."""

from __future__ import annotations

import pytest

from tests.web_prom.support import python

pytestmark = pytest.mark.slow  # the tests start processes

PROJECT = """
    import sys
    if {celery}:
        from celery import Celery
    from django.conf import settings
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django_prom"],
        DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}},
        USE_TZ=True,
        **{settings},
    )
    import django; django.setup()
    from django.core.management import call_command
    from prometheus_client import REGISTRY

    def samples(name):
        return [
            (*sample.labels.values(), sample.value)
            for family in REGISTRY.collect() for sample in family.samples
            if sample.name == name and sample.value
        ]
"""
TASK = """
    call_command("migrate", verbosity=0)
    print(samples("http_request_db_queries_total"))

    def create():
        from django.contrib.contenttypes.models import ContentType
        ContentType.objects.create(app_label="a", model="b")

    app = Celery("shop")
    app.conf.task_always_eager = True
    task = app.task(create, name="create")
    task.delay()
    print([each for each in samples("http_request_db_queries_total") if each[0] == "_task"])
    print(samples("django_model_changes_total"))
"""


def run(settings: dict[str, object], code: str, *, celery: bool = True) -> list[str]:
    """Run a program of a project and return the lines that it printed."""
    return python(PROJECT.format(settings=settings, celery=celery) + code).splitlines()


def test_celery_task_has_its_queries_by_the_setting_alone() -> None:
    found = run({"PROM_DATABASE": True}, TASK)
    assert found[1:] == ["[('_task', 'create', 1.0)]", "[]"]


def test_celery_task_counts_changes_of_models() -> None:
    found = run({"PROM_MODELS": ["contenttypes.ContentType"]}, TASK)
    assert found == ["[]", "[]", "[('contenttypes.ContentType', 'created', 1.0)]"]


def test_jobs_are_not_imported_without_a_setting() -> None:
    code = """
    print([name for name in ("web_prom.jobs", "django_prom.jobs") if name in sys.modules])
"""
    assert run({}, code) == ["[]"]
