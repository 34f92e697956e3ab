"""Measuring outgoing requests: all of the process, or those of one session."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from web_prom.http_client import httpx_clients, requests_sessions, urllib3_pools
from web_prom.http_client.recorder import CallRecorder
from web_prom.http_client.targets import (
    ATTRIBUTE,
    ProcessCallRecorder,
    ProcessTargets,
    measurement_in,
)
from web_prom.import_hook import when_imported
from web_prom.metrics.recorder import Recorder

logger = logging.getLogger("web_prom")

LIBRARIES: Mapping[str, Callable[[ModuleType], bool]] = {
    "urllib3": urllib3_pools.patch,
    "requests": requests_sessions.patch,
    "httpx": httpx_clients.patch,
    "httpx2": httpx_clients.patch,
}
"""The packages that are measured, and what measures their classes."""

_CLASSES = {
    "urllib3": ("PoolManager",),
    "requests": ("Session",),
    "httpx": ("Client", "AsyncClient"),
    "httpx2": ("Client", "AsyncClient"),
}


def activate(recorder: Recorder) -> CallRecorder:
    """Record all outgoing requests of this process for an application. Safe from any thread.

    Sessions that exist are measured too. A library that is imported later is measured then; none is imported
    for this.

    Args:
        recorder: The recorder of the application.

    Returns:
        The recorder of the requests. Requests are recorded while it exists.

    Raises:
        ConfigError: A constant label has the name of a label of the family.
    """
    call_recorder = ProcessCallRecorder(recorder)
    ProcessTargets.add(call_recorder)
    for name in LIBRARIES:
        when_imported(name, _patch)
    return call_recorder


def deactivate(call_recorder: CallRecorder) -> None:
    """Record no further requests with what :func:`activate` has returned. Safe from any thread."""
    ProcessTargets.discard(call_recorder)


def instrument(session: Any, *, registry: CollectorRegistry = REGISTRY) -> None:
    """Measure the outgoing requests of one session, client or pool manager.

    The family is ``http_client_request_duration_seconds``, with the constant labels and the namespace of
    the application that uses the registry. If there is none when the first request ends, the settings are
    those of the environment. A further call with the same registry does nothing. If ``PROM_HTTP_CLIENT`` is
    on in an application on the registry, the requests are counted once.

    Safe from any thread, and before or after a fork. A copy of a session is measured if the library copies
    its attributes; an unpickled session is not measured.

    Args:
        session: A ``requests.Session``, an ``httpx.Client``, an ``httpx.AsyncClient`` or a
            ``urllib3.PoolManager``, also of a subclass.
        registry: The registry of the family.

    Raises:
        TypeError: The object is none of these, or ``registry`` is not a registry.
    """
    name, base = _find_class(session)
    _patch(sys.modules[name])
    if name == "requests":
        _patch(sys.modules["urllib3"])
        requests_sessions.patch_session(session, base)
    elif name == "urllib3":
        urllib3_pools.patch_manager(session, base)
    session.__dict__[ATTRIBUTE] = measurement_in(registry)


def uninstrument(session: Any) -> None:
    """Measure a session no longer, unless ``PROM_HTTP_CLIENT`` is on. Never raises.

    Args:
        session: What was given to :func:`instrument`. Any other object is ignored.
    """
    getattr(session, "__dict__", {}).pop(ATTRIBUTE, None)


def _find_class(session: Any) -> tuple[str, type]:
    for name, classes in _CLASSES.items():
        for cls in classes:
            base = getattr(sys.modules.get(name), cls, None)
            if base is not None and isinstance(session, base):
                return name, base
    raise TypeError(
        f"{type(session).__qualname__} cannot be measured; give a requests.Session, an httpx.Client, an "
        "httpx.AsyncClient or a urllib3.PoolManager"
    )


def _patch(module: ModuleType) -> None:
    try:
        complete = LIBRARIES[module.__name__](module)
    except Exception:
        logger.warning("the requests of %s are not measured", module.__name__, exc_info=True)
        return
    if not complete:
        version = getattr(module, "__version__", "of an unknown release")
        logger.warning("some requests of %s %s are not measured", module.__name__, version)
