"""Counts objects of models that are created, changed and deleted (``PROM_MODELS``).

Only imported if the setting names a model.
"""

from __future__ import annotations

import difflib
from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from functools import wraps
from typing import Any

import prometheus_client
from django.apps import apps
from django.db import connections
from django.db.models.deletion import Collector
from django.db.models.signals import post_save

from web_prom.errors import ConfigError
from web_prom.metrics.conventions import MetricSpec, same_names
from web_prom.metrics.recorder import Recorder

CHANGES = MetricSpec(
    name="django_model_changes_total",
    documentation="Objects that were created, changed or deleted, in transactions that were committed.",
    labels=same_names("model", "operation"),
)

OPERATIONS = ("created", "changed", "deleted")

_UID = "django_prom.model_changes"

_Change = tuple[str, str]
"""The label of a model, for example ``shop.Order``, and an operation."""


def find_models(names: Iterable[str]) -> list[Any]:
    """Return the models with these names, for example ``shop.Order``.

    Raises:
        ConfigError: There is no such model, or it has no objects of its own to count. The message names the
            models that exist.
    """
    return [_find_model(name) for name in names]


class ModelChanges:
    """Counts changes to objects of some models. Threads share it, and a forked child continues to use it.

    A change is counted when its transaction is committed, and not if it is rolled back. It is counted for
    the class of the object, for the concrete model of a proxy, and for each parent of multi-table
    inheritance, because each of these has the object in its table.

    Creations and changes are seen by the signal ``post_save``. Deletions are read from the result of
    Django's ``Collector.delete``, which all deletions use. A receiver of ``post_delete`` would change the
    queries of the application: without one, Django can delete many objects by one statement.

    Args:
        recorder: The recorder of the project.
        models: The models.
    """

    def __init__(self, recorder: Recorder, models: Iterable[Any]) -> None:
        self._recorder = recorder
        named = {model._meta.label for model in models}
        self._own: dict[str, tuple[str, ...]] = {}
        self._with_parents: dict[str, tuple[str, ...]] = {}
        self._senders: list[Any] = []
        for model in apps.get_models(include_auto_created=True):
            label = model._meta.label
            own = _labels_of_table(model)
            parents = [each._meta.label for each in model._meta.concrete_model._meta.get_parent_list()]
            self._own[label] = tuple(each for each in own if each in named)
            self._with_parents[label] = tuple(each for each in (*own, *parents) if each in named)
            if self._with_parents[label]:
                self._senders.append(model)
        for label in sorted(named):
            for operation in OPERATIONS:
                self._child(label, operation)  # increase() does not see the first increment of a new counter

    def start(self) -> None:
        """Connect the signal, and watch deletions."""
        global _current  # noqa: PLW0603 - a process has one project
        for model in self._senders:
            post_save.connect(self._on_save, sender=model, weak=False, dispatch_uid=_UID)
        _current = self
        _watch_deletions()

    def stop(self) -> None:
        """Disconnect the signal. Deletions are not counted any more."""
        global _current  # noqa: PLW0603 - as above
        for model in self._senders:
            post_save.disconnect(sender=model, dispatch_uid=_UID)
        _current = None

    def on_delete(self, using: str, result: tuple[int, Mapping[str, int]]) -> None:
        """Count deleted objects. Never raises.

        Args:
            using: The alias of the database.
            result: The number of all deleted objects, and their numbers by the label of the model.
        """
        try:
            for label, number in result[1].items():
                for name in self._own.get(label, ()):
                    self._count_at_commit(using, (name, "deleted"), number)
        except Exception:
            self._recorder.record_internal_error("models")

    def _on_save(self, sender: Any, *, created: bool, using: str, raw: bool = False, **_: Any) -> None:
        try:
            # A fixture has the rows of the parents as objects of their own.
            names = (self._own if raw else self._with_parents)[sender._meta.label]
            for name in names:
                self._count_at_commit(using, (name, "created" if created else "changed"), 1)
        except Exception:
            self._recorder.record_internal_error("models")

    def _count_at_commit(self, using: str, change: _Change, number: int) -> None:
        connection = connections[using]
        if not (connection.in_atomic_block and connection.commit_on_exit):
            # Django commits each statement, or autocommit is off: the application commits by itself, also
            # outside of an atomic block, and Django runs no callbacks until autocommit is on.
            self.count({change: number})
            return
        # A transaction can change a million objects. They are added up in one callback, as long as the
        # application adds none of its own and the savepoints are the same. A TestCase never commits: it runs
        # only the callbacks that a part of the test adds, so there each change has its own.
        callbacks = connection.run_on_commit
        if callbacks and not _is_in_test_case(connection):
            savepoints, callback, *_ = callbacks[-1]
            is_own = isinstance(callback, _PendingChanges) and callback.owner is self
            if is_own and savepoints == set(connection.savepoint_ids):
                callback.changes[change] += number
                return
        connection.on_commit(_PendingChanges(self, change, number))

    def count(self, changes: Mapping[_Change, int]) -> None:
        """Count changes that are committed. Never raises."""
        try:
            for (model, operation), number in changes.items():
                self._child(model, operation).inc(number)
        except Exception:
            self._recorder.record_internal_error("models")

    def _child(self, model: str, operation: str) -> Any:
        # Looked up each time: a change takes a statement of the database, beside which this is nothing, and
        # a child that is kept would have to be replaced after a fork.
        family = self._recorder.families.limited_family(
            prometheus_client.Counter, CHANGES, bounded=tuple(CHANGES.labels)
        )
        return self._recorder.child_without_extra(family, {"model": model, "operation": operation})[0]


class _PendingChanges:
    """A callback for the commit of a transaction. It counts the changes of the transaction, once.

    A test can run it several times, with ``captureOnCommitCallbacks(execute=True)`` inside of another one.
    """

    def __init__(self, changes: ModelChanges, change: _Change, number: int) -> None:
        self.owner = changes
        self.changes: Tally[_Change] = Tally({change: number})

    def __call__(self) -> None:
        changes, self.changes = self.changes, Tally()
        self.owner.count(changes)


def _is_in_test_case(connection: Any) -> bool:
    return any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)


_current: ModelChanges | None = None


def _watch_deletions() -> None:
    """Wrap ``Collector.delete``, once."""
    delete = Collector.delete
    if getattr(delete, "is_watched", False):
        return

    @wraps(delete)
    def watched_delete(self: Any, *args: Any, **options: Any) -> Any:
        result = delete(self, *args, **options)
        if _current is not None:
            _current.on_delete(self.using, result)
        return result

    watched_delete.is_watched = True  # type: ignore[attr-defined]
    Collector.delete = watched_delete


def _find_model(name: str) -> Any:
    try:
        model = apps.get_model(name)
    except LookupError:
        raise ConfigError(_unknown(name)) from None
    options = model._meta
    if options.swapped:
        raise ConfigError(
            f"PROM_MODELS names {options.label}, which {options.swappable} replaces; name {options.swapped}"
        )
    if options.auto_created:
        raise ConfigError(
            f"PROM_MODELS names {options.label}, a table that Django creates for a many-to-many field and "
            "changes without signals; name another model, or give the field a model with through="
        )
    return model


def _unknown(name: str) -> str:
    known = sorted(each._meta.label for each in apps.get_models() if not each._meta.swapped)
    lower = {label.lower(): label for label in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    hint = f" (did you mean {lower[close[0]]}?)" if close else ""
    return f"PROM_MODELS names {name!r}, which is no model{hint}; the models are {', '.join(known) or 'none'}"


def _labels_of_table(model: Any) -> tuple[str, ...]:
    """Return the labels of a model and of the models of which it is a proxy."""
    labels = [model._meta.label]
    while model._meta.proxy:
        model = model._meta.proxy_for_model
        labels.append(model._meta.label)
    return tuple(labels)
