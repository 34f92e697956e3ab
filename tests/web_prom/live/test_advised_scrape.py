"""The scrapes of the live page as the checks read them: the same answers as those of parsed text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from web_prom.advice.scrapes import Scrape, Window
from web_prom.live.advised_scrape import AdvisedScrape
from web_prom.live.text_samples import TextReader

BEFORE = 'c_total{a="1"} 5\nc_total{a="2"} 7\nc_total{a="gone"} 3\ng 4\n'
SAME = 'c_total{a="1"} 6\nc_total{a="2"} 2\nc_total{a="gone"} 3\ng 4\n'
MORE = 'c_total{a="0"} 1\nc_total{a="1"} 6\nc_total{a="2"} 9\nh_bucket{le="1"} 1\n'

Make = Callable[[str, str], tuple[Scrape, Scrape]]


def one_reader(before: str, after: str) -> tuple[Scrape, Scrape]:
    reader = TextReader()
    return AdvisedScrape(reader.read(before.encode()), 0), AdvisedScrape(reader.read(after.encode()), 30)


def two_readers(before: str, after: str) -> tuple[Scrape, Scrape]:
    scrapes = TextReader().read(before.encode()), TextReader().read(after.encode())
    return AdvisedScrape(scrapes[0], 0), AdvisedScrape(scrapes[1], 30)


def parsed_before(before: str, after: str) -> tuple[Scrape, Scrape]:
    return Scrape(before, 0), AdvisedScrape(TextReader().read(after.encode()), 30)


def interrupted(before: str, after: str) -> tuple[Scrape, Scrape]:
    """Return scrapes of one reader that read another text between them."""
    reader = TextReader()
    earlier = AdvisedScrape(reader.read(before.encode()), 0)
    reader.read(b'c_total{a="2"} 1\n')
    return earlier, AdvisedScrape(reader.read(after.encode()), 30)


@pytest.mark.parametrize("make", [one_reader, two_readers, parsed_before, interrupted])
@pytest.mark.parametrize("after", [SAME, MORE])
def test_growth_is_that_of_parsed_scrapes(make: Make, after: str) -> None:
    """Also for series that are new, that are gone, that went back, and that return."""
    before, later = make(BEFORE, after)
    window, expected = Window(later, before), Window(Scrape(after, 30), Scrape(BEFORE, 0))
    for name in ("c_total", "g", "h_bucket", "missing"):
        assert sorted((tuple(labels.items()), value) for labels, value in window.growth(name)) == sorted(
            (tuple(labels.items()), value) for labels, value in expected.growth(name)
        )
        assert window.increase(name) == expected.increase(name)
        assert later.total(name) == Scrape(after, 30).total(name)


def test_points_are_read_any_number_of_times() -> None:
    scrape = one_reader(BEFORE, SAME)[1]
    points = scrape.points("c_total")
    assert (len(points), len(list(points)), len(list(points))) == (3, 3, 3)
    assert next(iter(points)) in points
    assert list(scrape.points("missing")) == []
    assert set(scrape.names) == {"c_total", "g"}
