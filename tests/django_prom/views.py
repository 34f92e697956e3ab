"""The views of the test project. A test sets functions that they call in :data:`hooks`."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import FileResponse, Http404, HttpResponse, HttpResponseNotModified, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.views import View
from django.views.decorators.http import require_GET

from django_prom import exclude

hooks: dict[str, Callable[..., Any]] = {}
"""The functions that views call, by name. It is cleared after each test."""


def call(name: str, *args: Any) -> Any:
    """Call a hook, if the test has set it."""
    hook = hooks.get(name)
    return None if hook is None else hook(*args)


def hello(request: Any, *args: object, **kwargs: object) -> Any:
    """Answer with any arguments of the URL."""
    call("view", request)
    return HttpResponse("hello")


def status(request: Any, code: int) -> Any:
    return HttpResponse(b"", status=code)


def not_modified(request: Any) -> Any:
    return HttpResponseNotModified()


def fail(request: Any) -> Any:
    call("view", request)
    raise ValueError("the view failed")


def missing(request: Any) -> Any:
    raise Http404


def forbidden(request: Any) -> Any:
    raise PermissionDenied


def suspicious(request: Any) -> Any:
    raise SuspiciousOperation


def nothing(request: Any) -> Any:
    return None


def leave(request: Any) -> Any:
    raise KeyboardInterrupt


def rendered(request: Any) -> Any:
    """Raise an exception when the template is rendered, after the view."""
    template = engines["django"].from_string("{{ broken }}")
    return TemplateResponse(request, template, {"broken": _Broken()})


class _Broken:
    def __str__(self) -> str:
        raise LookupError("in the template")


def stream(request: Any) -> Any:
    """Stream two chunks, and call a hook between them."""

    def body() -> Iterator[str]:
        call("start")
        yield "one,"
        call("between")
        yield "zwölf"
        call("end")

    return StreamingHttpResponse(body())


def stream_empty_chunk(request: Any) -> Any:
    """Stream an empty chunk and another one, which a hook can replace."""

    def body() -> Iterator[bytes]:
        yield b""
        call("between")
        last = call("last")
        yield b"x" if last is None else last

    return StreamingHttpResponse(body())


def stream_from_async(request: Any) -> Any:
    """Stream an asynchronous body from a synchronous view."""
    return StreamingHttpResponse(_async_body())


async def async_stream(request: Any) -> Any:
    return StreamingHttpResponse(_async_body())


async def _async_body() -> AsyncIterator[bytes]:
    await _acall("start")
    yield b"one,"
    await _acall("between")
    yield b"two"
    await _acall("end")


async def _acall(name: str) -> None:
    result = call(name)
    if asyncio.iscoroutine(result):
        await result


def own_iteration(request: Any) -> Any:
    """Answer with a custom class of response."""
    return _CustomResponse()


class _CustomResponse(HttpResponse):  # type: ignore[misc]
    streaming = True
    is_async = False

    def __iter__(self) -> Iterator[bytes]:
        yield b"own"


def send_file(request: Any) -> Any:
    return FileResponse(Path(__file__).open("rb"))


def send_broken_file(request: Any) -> Any:
    """Answer with a file that cannot be read completely."""
    return FileResponse(_BrokenFile(b"x" * 9000))


class _BrokenFile(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= 4096:
            raise OSError("the disk failed")
        return super().read(size)


def read_body(request: Any) -> Any:
    """Read ten bytes of the body, or the number that a hook returns."""
    wanted = call("read") or 10
    return HttpResponse(request.read(wanted))


def read_post(request: Any) -> Any:
    return HttpResponse(",".join(request.POST))


@require_GET  # type: ignore[untyped-decorator]
def only_get(request: Any) -> Any:
    return HttpResponse("got")


async def async_hello(request: Any) -> Any:
    result = call("view", request)
    if asyncio.iscoroutine(result):
        await result
    return HttpResponse("hello")


async def async_fail(request: Any) -> Any:
    raise ValueError("the view failed")


class Page(View):  # type: ignore[misc]
    """A class of methods."""

    def get(self, request: Any, slug: str) -> Any:
        return HttpResponse(slug)


@exclude
def health(request: Any) -> Any:
    return HttpResponse("ok")


@exclude
class Health(View):  # type: ignore[misc]
    """An excluded class of methods."""

    def get(self, request: Any) -> Any:
        return HttpResponse("ok")
