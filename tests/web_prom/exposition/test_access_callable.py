"""Access control: the callable of the user."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from web_prom.config import Config
from web_prom.exposition.access_control import AccessControl


def load(**options: Any) -> Config:
    return Config.load(options)


def allows(config: Config, **environ: Any) -> bool:
    return AccessControl(config).check(environ) is None


def status(config: Config, **environ: Any) -> str:
    denial = AccessControl(config).check(environ)
    return "200" if denial is None else denial.status[:3]


@pytest.mark.parametrize(
    ("answer", "expected"), [(True, "200"), (1, "200"), (False, "403"), (None, "403"), ("", "403")]
)
def test_result_of_the_callable_decides(answer: object, expected: str) -> None:
    assert status(load(allow_scrape=lambda environ: answer)) == expected


def test_callable_is_called_with_the_environ() -> None:
    config = load(allow_scrape=lambda environ: environ.get("HTTP_X_SCRAPER") == "yes")
    assert allows(config, HTTP_X_SCRAPER="yes")
    assert not allows(config)


def test_failing_callable_refuses_the_scrape_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_environ: Any) -> bool:
        raise KeyError("hush")

    assert status(load(allow_scrape=broken)) == "403"
    (record,) = caplog.records
    assert record.exc_info is not None


def test_callable_and_credentials_are_both_required() -> None:
    config = load(allow_scrape=lambda environ: environ["x"], bearer_token="s3cret")
    assert status(config, x=True) == "401"
    assert status(config, x=False, HTTP_AUTHORIZATION="Bearer s3cret") == "403"
    assert status(config, x=True, HTTP_AUTHORIZATION="Bearer s3cret") == "200"


def test_fault_75_failing_callable_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    access = AccessControl(load(allow_scrape=lambda environ: environ["HTTP_X"]))
    for number in range(1000):
        assert access.check({"REMOTE_ADDR": str(number)}) is not None
    assert len(caplog.records) == 1


async def refuse(_environ: Any) -> bool:
    return False


async def refuse_later(_environ: Any) -> AsyncIterator[bool]:
    yield False


def refuse_lazily(_environ: Any) -> Iterator[bool]:
    yield False


@functools.wraps(refuse)
def decorated(environ: Any) -> Any:
    return refuse(environ)


class Awaitable:
    def __await__(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize(
    "check",
    [
        lambda environ: refuse({**environ}),
        decorated,
        lambda environ: refuse_later({**environ}),
        lambda environ: refuse_lazily({**environ}),
        lambda environ: Awaitable(),
        lambda environ: filter(None, [False]),
    ],
)
def test_result_that_is_computed_later_refuses_the_scrape_and_is_logged(
    check: Callable[[Any], object], caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """Such an object is true, whatever its result will be."""
    access = AccessControl(load(allow_scrape=check, bearer_token="s3cret"))
    for _ in range(2):
        denial = access.check({"HTTP_AUTHORIZATION": "Bearer s3cret"})
        assert denial is not None
        assert denial.status == "403 Forbidden"
    assert access.sent_bearer_token({"HTTP_AUTHORIZATION": "Bearer s3cret"}) is None
    (record,) = caplog.records
    assert "PROM_ALLOW_SCRAPE" in str(record.exc_info and record.exc_info[1])
    assert not recwarn.list, "a coroutine that is not awaited is closed"


class Addresses(set[str]):
    """Addresses that may scrape. The set is false while it is empty."""

    def __call__(self, environ: Any) -> bool:
        return environ["REMOTE_ADDR"] in self


def test_callable_that_is_false_decides() -> None:
    addresses = Addresses()
    access = AccessControl(load(allow_scrape=addresses))
    assert not access.is_open
    assert access.check({"REMOTE_ADDR": "10.0.0.1"}) is not None
    addresses.add("10.0.0.1")
    assert access.check({"REMOTE_ADDR": "10.0.0.1"}) is None
    assert access.check({"REMOTE_ADDR": "10.0.0.2"}) is not None
