"""Created, changed and deleted objects of models (``PROM_MODELS``)."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler
from django.core.serializers import deserialize
from django.db import connection, transaction
from django.db.models.signals import post_delete, post_save
from django.test import TestCase, override_settings
from django.test.utils import CaptureQueriesContext
from prometheus_client import CollectorRegistry

from django_prom import conf
from tests.web_prom.support import python

from .conftest import configured
from .shop.database import create_tables, sqlite_databases

APPS = ["rest_framework", "django_prom", "tests.django_prom.shop"]
Changes = dict[tuple[str, str], float]


@pytest.fixture
def shop(tmp_path: Path, django_db_blocker: Any) -> Iterator[Any]:
    """Install the app with its tables; return its models."""
    databases = sqlite_databases(tmp_path, "default")
    with django_db_blocker.unblock(), override_settings(INSTALLED_APPS=APPS), databases:
        models = apps.get_app_config("shop").models_module
        assert models is not None
        create_tables("default", models.Order, models.GiftOrder, models.Tag, models.Line)
        yield models


@pytest.fixture
def count(shop: Any, registry: CollectorRegistry) -> Iterator[Any]:
    """Count changes of the named models until the end of the test."""
    overridden = []

    def start(*names: str, **more: Any) -> Any:
        override = override_settings(PROM_MODELS=list(names), **more)
        override.enable()
        overridden.append(override)
        conf.instrumentation()
        return read

    def read() -> Changes:
        return {
            (sample.labels["model"], sample.labels["operation"]): sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "django_model_changes_total" and sample.value
        }

    yield start
    for override in overridden:
        override.disable()


def test_model_changes_counts_each_operation(shop: Any, count: Any) -> None:
    changes = count("shop.Order")
    order = shop.Order.objects.create()
    order.save()
    order.save(update_fields=["number"])
    shop.Tag.objects.create()
    order.delete()
    assert changes() == {
        ("shop.Order", "created"): 1,
        ("shop.Order", "changed"): 2,
        ("shop.Order", "deleted"): 1,
    }


def test_model_changes_shows_named_models_at_0(shop: Any, count: Any, registry: CollectorRegistry) -> None:
    count("shop.order")
    for operation in ("created", "changed", "deleted"):
        labels = {"model": "shop.Order", "operation": operation}
        assert registry.get_sample_value("django_model_changes_total", labels) == 0


def test_model_changes_counts_no_rolled_back_change(shop: Any, count: Any) -> None:
    changes = count("shop.Order")
    with transaction.atomic():
        shop.Order.objects.create()
        transaction.set_rollback(True)
    with transaction.atomic():
        shop.Order.objects.create()
        with transaction.atomic():
            shop.Order.objects.create().delete()
            transaction.set_rollback(True)
        shop.Order.objects.create()
        assert changes() == {}
    assert changes() == {("shop.Order", "created"): 2}


def test_model_changes_of_on_commit_have_its_limits(shop: Any, count: Any) -> None:
    """The page names them: savepoints without ``atomic()``, and a callback that raises."""
    changes = count("shop.Order")
    with transaction.atomic():
        savepoint = connection.savepoint()
        shop.Order.objects.create()
        connection.savepoint_rollback(savepoint)
    assert changes() == {("shop.Order", "created"): 1}

    def fail() -> None:
        raise KeyError

    for robust in (True, False):
        with suppress(KeyError), transaction.atomic():
            shop.Order.objects.create()
            transaction.on_commit(fail, robust=robust)
            shop.Order.objects.create()
    assert changes() == {("shop.Order", "created"): 4}


def test_model_changes_of_a_transaction_need_one_callback(shop: Any, count: Any) -> None:
    changes = count("shop.Order")
    with transaction.atomic():
        for number in range(100):
            shop.Order.objects.create(number=number)
        assert len(connection.run_on_commit) == 1
    assert changes() == {("shop.Order", "created"): 100}


def test_model_changes_counts_once_in_captured_callbacks_of_a_test_case(shop: Any, count: Any) -> None:
    """A TestCase keeps all callbacks of a test, also those that it has run, and runs those of a block."""
    changes = count("shop.Order")
    counted: list[float] = []

    def create() -> None:
        shop.Order.objects.create()

    def create_in(savepoint: bool) -> Callable[[], None]:
        def inner() -> None:
            with transaction.atomic(savepoint=savepoint):
                create()

        return inner

    class Tests(TestCase):  # type: ignore[misc]
        def captured(self, change: Callable[[], None]) -> None:
            before = changes().get(("shop.Order", "created"), 0)
            with self.captureOnCommitCallbacks(execute=True):
                change()
            counted.append(changes().get(("shop.Order", "created"), 0) - before)

        def test_changes(self) -> None:
            create()
            for change in (create, create, create_in(savepoint=True), create_in(savepoint=False)) * 2:
                self.captured(change)
            with transaction.atomic():
                create()
                self.captured(create)
            self.captured(lambda: self.captured(create))

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Tests).run(result)
    assert result.errors == result.failures == []
    assert counted == [1] * 11
    assert changes() == {("shop.Order", "created"): 10}


def test_model_changes_counts_without_autocommit(shop: Any, count: Any) -> None:
    """At once, also in ``atomic()``: Django has no hook for the commit of the application."""
    changes = count("shop.Order")
    transaction.set_autocommit(False)
    try:
        shop.Order.objects.create()
        shop.Order.objects.get_or_create(number=1)
        with transaction.atomic(), transaction.atomic():
            shop.Order.objects.create().delete()
        assert connection.run_on_commit == []
        transaction.commit()
        expected = {("shop.Order", "created"): 3, ("shop.Order", "deleted"): 1}
        assert changes() == expected
    finally:
        transaction.set_autocommit(True)
    assert changes() == expected
    with transaction.atomic():
        shop.Order.objects.create()
        assert changes() == expected
    assert changes() == {**expected, ("shop.Order", "created"): 4}


def test_model_changes_counts_a_proxy_for_its_concrete_model(shop: Any, count: Any) -> None:
    changes = count("shop.Order")
    shop.UrgentOrder.objects.create().delete()
    assert changes() == {("shop.Order", "created"): 1, ("shop.Order", "deleted"): 1}


def test_model_changes_counts_a_named_proxy_too(shop: Any, count: Any) -> None:
    changes = count("shop.UrgentOrder")
    shop.Order.objects.create()
    shop.UrgentOrder.objects.create().delete()
    assert changes() == {("shop.UrgentOrder", "created"): 1, ("shop.UrgentOrder", "deleted"): 1}


def test_model_changes_counts_a_child_for_its_parent(shop: Any, count: Any) -> None:
    """Each table has a row of the object."""
    changes = count("shop.Order", "shop.GiftOrder")
    gift = shop.GiftOrder.objects.create()
    gift.delete()
    for model in ("shop.Order", "shop.GiftOrder"):
        for operation in ("created", "deleted"):
            assert changes()[model, operation] == 1
    assert len(changes()) == 4


def test_model_changes_counts_cascades_and_deletions_of_querysets(shop: Any, count: Any) -> None:
    changes = count("shop.Order", "shop.Line")
    for _ in range(3):
        order = shop.Order.objects.create()
        shop.Line.objects.create(order=order)
        shop.Line.objects.create(order=order)
    shop.Order.objects.all().delete()
    assert changes()["shop.Order", "deleted"] == 3
    assert changes()["shop.Line", "deleted"] == 6


def test_model_changes_leaves_the_queries_of_deletions_alone(shop: Any, count: Any) -> None:
    """With a receiver of post_delete, Django would read the objects first."""
    shop.Tag.objects.bulk_create([shop.Tag(), shop.Tag()])
    shop.Tag.objects.bulk_create([shop.Tag(), shop.Tag()])
    with CaptureQueriesContext(connection) as before:
        shop.Tag.objects.filter(pk__lte=2).delete()
    changes = count("shop.Tag")
    assert not post_delete.has_listeners(shop.Tag)
    with CaptureQueriesContext(connection) as after:
        assert shop.Tag.objects.filter(pk__gt=2).delete()[0] == 2
    assert len(after) == len(before)
    assert changes() == {("shop.Tag", "deleted"): 2}


def test_model_changes_does_not_see_bulk_operations(shop: Any, count: Any) -> None:
    changes = count("shop.Order")
    shop.Order.objects.bulk_create([shop.Order()])
    shop.Order.objects.update(number=2)
    assert changes() == {}


def test_model_changes_counts_the_rows_of_a_fixture(shop: Any, count: Any) -> None:
    """A fixture has the row of the parent as an object of its own."""
    changes = count("shop.Order", "shop.GiftOrder")
    rows = (
        '[{"model": "shop.order", "pk": 1, "fields": {}}, {"model": "shop.giftorder", "pk": 1, "fields": {}}]'
    )
    for row in deserialize("json", rows):
        row.save()
    assert changes() == {("shop.Order", "created"): 1, ("shop.GiftOrder", "created"): 1}


def test_model_changes_has_constant_labels_and_namespace(
    shop: Any, count: Any, registry: CollectorRegistry
) -> None:
    labels = {"zone": "eu"}
    count("shop.Order", PROM_CONSTANT_LABELS=labels, PROM_NAMESPACE="mine", PROM_EXTRA_LABELS={"a": max})
    shop.Order.objects.create()
    found = {"model": "shop.Order", "operation": "created", **labels}
    assert registry.get_sample_value("mine_django_model_changes_total", found) == 1


def test_model_changes_error_is_counted_and_the_change_goes_on(
    shop: Any, count: Any, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    count("shop.Order")
    monkeypatch.setattr("django_prom.model_changes.connections", None)
    order = shop.Order.objects.create()
    assert order.delete() == (1, {"shop.Order": 1})
    stage = {"stage": "models"}
    assert registry.get_sample_value("web_prom_instrumentation_errors_total", stage) == 2


def test_model_changes_stop_with_the_settings(shop: Any, count: Any) -> None:
    changes = count("shop.Order")
    with override_settings(PROM_MODELS=[]):
        assert not post_save.has_listeners(shop.Order)
        shop.Order.objects.create().delete()
    assert changes() == {}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("shop.Ordre", "did you mean shop.Order?"),
        ("shop.Nothing", "the models are"),
        ("elsewhere.Order", "shop.Line, shop.Order, shop.Tag"),
        ("shop.Line_tags", "many-to-many"),
        ("shop.Customer", "name shop.Tag"),
    ],
)
@configured(INSTALLED_APPS=APPS, SHOP_CUSTOMER_MODEL="shop.Tag")
def test_model_changes_names_that_cannot_be_counted_prevent_the_start(name: str, part: str) -> None:
    """The message of the check and of the server names what exists."""
    with override_settings(PROM_MODELS=[name]):
        (found,) = checks.run_checks(tags=["django_prom"])
        assert (found.id, found.level) == ("django_prom.E004", checks.ERROR)
        assert name in found.msg
        assert part in found.msg
        with pytest.raises(ImproperlyConfigured, match=name):
            WSGIHandler()


@pytest.mark.slow
def test_model_changes_is_not_imported_if_the_setting_is_off() -> None:
    code = """
        import sys
        from django.conf import settings
        settings.configure(INSTALLED_APPS=["django_prom"], ROOT_URLCONF="django_prom.urls")
        import django; django.setup()
        from django.core.wsgi import get_wsgi_application
        get_wsgi_application()
        print([name for name in sys.modules if name.startswith("django_prom.m")])
    """
    assert "model_changes" not in python(code)
