"""Creates the metric families of one registry: their labels, their limits, and their names in a naming."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakSet, ref

from prometheus_client import CollectorRegistry, Counter, Histogram

from web_prom.config.raw_values import PREFIX
from web_prom.config.settings import Config
from web_prom.errors import ConflictError
from web_prom.metrics.conventions import NAMINGS, MetricSpec
from web_prom.metrics.get_or_create import get_or_create
from web_prom.metrics.limited_metric import LimitedMetric
from web_prom.metrics.namings.model import Translation
from web_prom.metrics.translated_family import TranslatedFamily


class FamilyFactory:
    """Creates families in one registry. Safe to share between threads.

    Args:
        registry: The registry.
        config: The settings of the application.

    Attributes:
        config: As given.
        naming: The naming of the families.
    """

    def __init__(self, registry: CollectorRegistry, config: Config) -> None:
        # A weak reference, so that a registry is freed without the garbage collector.
        self._registry = ref(registry)
        self.config = config
        self.naming = NAMINGS[config.naming]
        self._constant_names = tuple(config.constant_labels)
        self._added_names = (*config.extra_labels, *self._constant_names)
        self._limited: dict[str, LimitedMetric] = {}
        self._own: WeakSet[Any] = WeakSet()

    @property
    def registry(self) -> CollectorRegistry:
        """The registry of the families. Its applications and its scrapes keep it alive."""
        registry = self._registry()
        assert registry is not None
        return registry

    def belongs_to(self, registry: object) -> bool:
        """Return whether the families are those of a registry, and not of one that was copied."""
        return self._registry() is registry

    def limited_family(
        self,
        kind: type[Any],
        spec: MetricSpec,
        *,
        bounded: Iterable[str] = (),
        extra: bool = False,
        **options: Any,
    ) -> LimitedMetric:
        """Return a family with the constant labels and a limit on its label sets. Create it if it is missing.

        Get its children with :meth:`web_prom.metrics.recorder.Recorder.child_without_extra`.

        Args:
            kind: ``Counter`` or ``Histogram``.
            spec: Name, help and labels.
            bounded: Attributes with a bounded number of values.
            extra: Add the extra labels, which are computed from a request and its response.
            **options: Further arguments of ``kind``, for example ``buckets``.

        Raises:
            ConflictError: The registry has another metric with this name.
        """
        translations = self.naming.translations.get(spec.name)
        if translations:
            return self._translated_family(spec.name, translations, bounded)
        added_names = self._added_names if extra else self._constant_names
        label_names = (*spec.labels, *added_names)
        namespace = self.config.namespace or spec.prefix
        metric = self._metric(kind, spec, label_names, namespace=namespace, **options)
        family = self._limited.get(spec.name)
        if family is None or family.metric is not metric:
            family = self._limited[spec.name] = LimitedMetric(
                metric,
                self.config.max_label_sets,
                tuple(spec.labels.values()),
                (*self._constant_names, *bounded),
                label_names,
            )
        return family

    def unlimited_family(self, kind: type[Any], spec: MetricSpec, **options: Any) -> Any:
        """Return a family whose labels are all bounded, with the constant labels. Create it if it is missing.

        Args:
            kind: ``Counter``, ``Gauge`` or ``Histogram``.
            spec: Name, help and labels.
            **options: Further arguments of ``kind``, for example ``multiprocess_mode``.

        Raises:
            ConflictError: The registry has another metric with this name.
        """
        for translation in self.naming.translations.get(spec.name, ()):
            spec = translation.spec
        labels = (*spec.labels, *self._constant_names)
        return self._metric(kind, spec, labels, namespace=self.config.namespace or spec.prefix, **options)

    def _translated_family(
        self, name: str, translations: Sequence[Translation], bounded: Iterable[str]
    ) -> TranslatedFamily:
        families: list[tuple[Translation, LimitedMetric]] = []
        for each in translations:
            is_histogram = each.kind == "histogram"
            options: dict[str, Any] = {"buckets": self.config.duration_buckets} if is_histogram else {}
            kind = Histogram if is_histogram else Counter
            families.append((each, self.limited_family(kind, each.spec, bounded=bounded, **options)))
        return TranslatedFamily(name, families)

    def _family(self, kind: type[Any], spec: MetricSpec, **options: Any) -> LimitedMetric:
        return self.limited_family(kind, spec, extra=True, **options)

    def _metric(self, kind: type[Any], spec: MetricSpec, labels: tuple[str, ...], **options: Any) -> Any:
        try:
            metric = get_or_create(
                kind, spec.name, spec.documentation, labels, registry=self.registry, **options
            )
        except ConflictError as error:
            if "namespace" not in options:
                raise
            raise ConflictError(
                f"{error}\nThe second one is the metric of web-prom. Remove the first one, or set "
                f"{PREFIX}NAMESPACE: it is put before the names of web-prom's metrics."
            ) from None
        self._own.add(metric)
        return metric
