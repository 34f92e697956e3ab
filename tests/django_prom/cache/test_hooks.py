"""The hooks into Django's caches: what they leave as it was, when they exist, and what their errors do."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import weakref
from typing import Any

import pytest
from django.core.cache import cache, caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

from django_prom.caches import LIBRARY
from tests.web_prom.support import errors, python
from web_prom.cache.methods import is_measured
from web_prom.cache.recorder import CacheRecorder

from .project import Measured, OwnMethods, configured_caches, path_of, use_caches


def test_cache_keeps_its_class_and_its_attributes(measured: Measured) -> None:
    measured_cache, plain = caches["dummy"], DummyCache("", {})
    assert is_measured(measured_cache)
    assert not is_measured(plain)
    assert type(measured_cache) is DummyCache
    assert vars(measured_cache) == vars(plain)
    assert dir(measured_cache) == dir(plain)


def test_cache_is_pickled_and_copied_as_before(measured: Measured) -> None:
    cache = caches["dummy"]
    assert pickle.dumps(cache) == pickle.dumps(DummyCache("", {}))
    for copied in (pickle.loads(pickle.dumps(cache)), copy.copy(cache), copy.deepcopy(cache)):
        assert vars(copied) == vars(cache)
        copied.get("a")
    assert pickle.loads(pickle.dumps(cache.get)) is not None
    assert pickle.loads(pickle.dumps(LocMemCache.get_many)) is BaseCache.get_many
    assert measured.operations("dummy") == {}


def test_cache_is_freed_without_the_garbage_collector(measured: Measured) -> None:
    gc.disable()
    try:
        cache = caches.create_connection("default")
        cache.set("a", 1)
        cache.get_or_set("b", lambda: 1)
        cache.get_many("ab")
        freed = weakref.ref(cache)
        del cache
        assert freed() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("name", LIBRARY.methods)
def test_method_keeps_its_signature_and_its_names(measured: Measured, name: str) -> None:
    method = getattr(caches["default"], name)
    with override_settings(PROM_CACHE=False):
        before = getattr(LocMemCache, name)
    function = method.__func__
    assert function is not before
    assert function.__wrapped__ is before
    assert inspect.ismethod(method)
    assert inspect.signature(function) == inspect.signature(before)
    assert inspect.getfullargspec(function) == inspect.getfullargspec(before)
    assert inspect.getsource(function) == inspect.getsource(before)
    assert inspect.iscoroutinefunction(function) == inspect.iscoroutinefunction(before)
    for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(function, attribute) == getattr(before, attribute)


def test_classes_keep_what_they_define(measured: Measured) -> None:
    names = set(vars(LocMemCache)), set(vars(BaseCache))
    with override_settings(PROM_CACHE=False):
        assert (set(vars(LocMemCache)), set(vars(BaseCache))) == names
        assert not hasattr(LocMemCache.get, "__wrapped__")
        assert not hasattr(BaseCache.get_many, "__wrapped__")
        assert "create_connection" not in vars(caches)
        cache.get("a")
    cache.get("a")
    assert measured.operations() == {"get miss": 1}


def test_objects_that_the_project_creates_itself_are_not_measured(measured: Measured) -> None:
    cache.get("a")
    own = LocMemCache("own", {})
    own.set("a", 1)
    assert own.get("a") == 1
    assert own.get_or_set("b", 2) == 2
    assert own.get_many("ab") == {"a": 1, "b": 2}
    assert measured.operations() == {"get miss": 1}


def test_caches_that_exist_before_are_measured(measured: Measured) -> None:
    with override_settings(PROM_CACHE=False):
        assert not is_measured(caches["default"])
    assert is_measured(caches["default"])
    cache.get("a")
    assert measured.operations() == {"get miss": 1}


def test_methods_that_are_no_functions_are_left_alone(measured: Measured) -> None:
    with use_caches(default=path_of(OwnMethods)):
        cache.set("a", 1)
        assert cache.delete("a") is True
        assert list(cache.keys()) == [":1:a"]
    assert measured.operations() == {"set ok": 1}


def test_method_that_a_test_replaces_is_used(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.set("a", 1)
    with monkeypatch.context() as patch:
        patch.setattr(LocMemCache, "get", lambda self, key, default=None, version=None: "mocked")
        assert cache.get("a") == "mocked"
    assert cache.get("a") == 1
    assert measured.operations() == {"set ok": 1, "get hit": 1}


def test_key_function_and_prefix_are_used(measured: Measured) -> None:
    entry = {**configured_caches()["default"], "KEY_PREFIX": "shop", "VERSION": 3}
    with override_settings(CACHES={"default": entry}):
        cache.set("a", 1)
        assert list(caches["default"]._cache) == ["shop:3:a"]
        assert cache.incr_version("a") == 4
        assert cache.get("a", version=4) == 1


def test_error_of_the_measurement_is_counted_and_changes_nothing(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(CacheRecorder, "_child", fail)
    cache.set("a", 1)
    assert cache.get("a") == 1
    assert cache.get_many(["a"]) == {"a": 1}
    assert errors(measured.registry) == {("cache",): 3}


def test_error_of_the_hook_is_counted_and_changes_nothing(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.get("a")

    def fail(*_: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr("django_prom.caches.measure", fail)
    assert isinstance(caches.create_connection("default"), LocMemCache)
    assert errors(measured.registry) == {("cache",): 1}


def test_unknown_alias_raises_the_error_of_django(measured: Measured) -> None:
    with pytest.raises(Exception, match="The connection 'none' doesn't exist"):
        caches["none"]


OFF = """
    import sys
    import django
    from django.conf import settings
    settings.configure(INSTALLED_APPS=["django_prom"], ROOT_URLCONF="x", {setting})
    django.setup()
    from django.core.cache import cache, caches
    cache.get("a")
    from django.core.cache.backends.base import BaseCache
    imported = [name for name in sys.modules if "prom.cache" in name]
    print(imported, hasattr(BaseCache.get, "__wrapped__"), list(vars(caches)))
"""


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("setting", ["", "PROM_CACHE=True, PROM_ENABLED=False"])
def test_setting_that_is_off_imports_nothing_and_changes_no_class(setting: str) -> None:
    output = python(OFF.format(setting=setting)).strip()
    assert output == "[] False ['_settings', '_connections', 'settings']"
